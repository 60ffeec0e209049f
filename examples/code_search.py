"""Code search: find a function by its docstring, with two towers trained in batches of 4096 pairs.

The pairs are real: every documented function and class of the Python standard library, torch, numpy and scikit-learn.
Both texts become TF-IDF weighted counts of words and character n-grams, hashed into 4096 numbers; each tower is a
linear map that starts from their principal components, and a small residual layer. In-batch N-pairs and cross-modal
triplets with each mining are compared with plain TF-IDF on modules that no training saw.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm, trange

import code_pairs
import fused_rank
import plots
import step_cost
from fused_rank.retrieval import evaluate

BATCH = 4096
HASHED, WIDTH = 4096, 512
MEMORY_LIMIT = 4 << 30  # bytes that a step may take, for "the largest batch it can hold"

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Score:
    mrr: float
    recall: float  # Recall@10


@dataclass
class Texts:
    """Hashed features [N, 4096] of docstrings and sources, and which of the pairs are held out."""

    docstrings: Tensor
    sources: Tensor
    train: Tensor
    test: Tensor
    tfidf: Score


def read(seed: int) -> Texts:
    pairs = code_pairs.collect()
    train, test = code_pairs.split_by_module(pairs, held_out=0.15, seed=seed)
    counts = [_counts([getattr(pair, side) for pair in pairs]) for side in ("docstring", "source")]
    weighting = TfidfTransformer(sublinear_tf=True).fit(sparse.vstack([side[train] for side in counts]))
    docstrings, sources = (weighting.transform(side).astype(np.float32) for side in counts)
    tfidf = _score(*(torch.tensor(side[test].toarray()) for side in (docstrings, sources)))
    sketch = _sketch(docstrings.shape[1], seed)
    hashed = [torch.tensor((side @ sketch).toarray()) for side in (docstrings, sources)]
    return Texts(hashed[0], hashed[1], torch.tensor(train), torch.tensor(test), tfidf)


def _counts(texts: list[str]) -> sparse.csr_matrix:
    """Words (identifiers taken apart) and character n-grams, hashed."""
    common = {"n_features": 1 << 15, "alternate_sign": False, "norm": None, "dtype": np.float32}
    grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), **common)
    words = HashingVectorizer(token_pattern=r"[A-Za-z][a-z]+|[A-Z]{2,}", **common)
    return sparse.hstack([grams.transform(texts), words.transform(texts)]).tocsr()


def _sketch(features: int, seed: int) -> sparse.csr_matrix:
    """Each feature, with a random sign, into one of HASHED sums."""
    generator = np.random.default_rng(seed)
    signs = generator.choice(np.array([-1.0, 1.0], dtype=np.float32), features)
    columns = generator.integers(0, HASHED, features)
    return sparse.csr_matrix((signs, (np.arange(features), columns)), shape=(features, HASHED))


def _score(docstrings: Tensor, sources: Tensor) -> Score:
    found = evaluate(docstrings, gallery=sources, metric="cosine", k=10)
    return Score(found.mrr, found.recall[10])


class Tower(nn.Module):
    """[B, 4096] -> [B, 512], on the unit sphere."""

    def __init__(self, components: Tensor) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(HASHED, WIDTH, bias=False)
        self.residual = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        with torch.no_grad():
            self.project.weight.copy_(components)
            for parameter in self.residual[2].parameters():
                parameter.zero_()

    def forward(self, features: Tensor) -> Tensor:
        rows = normalize(self.project(self.drop(features)))
        return normalize(rows + self.residual(4 * rows))


def principal_components(rows: Tensor, count: int) -> Tensor:
    """[count, D]: eigenvectors of the second moment, greatest first."""
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    return vectors[:, -count:].flip(1).T.contiguous()


def both_ways(loss: nn.Module) -> LossFunction:
    """Docstrings among sources and sources among docstrings."""

    def value(docstrings: Tensor, sources: Tensor) -> Tensor:
        there: Tensor = loss(docstrings, gallery=sources)
        back: Tensor = loss(sources, gallery=docstrings)
        return (there + back) / 2

    return value


def losses() -> dict[str, LossFunction]:
    """Row i's only positive is row i of the other side."""
    n_pairs = fused_rank.InfoNCELoss(temperature=0.05, symmetric=True)
    triplets = {
        f"triplet, {mining}": both_ways(fused_rank.TripletMarginLoss(0.2, mining))
        for mining in ("semihard", "hard", "all")
    }
    return {"in-batch N-pairs": lambda docstrings, sources: n_pairs(docstrings, gallery=sources), **triplets}


@dataclass
class Run:
    """One training; `curve` is the held-out score after each epoch."""

    curve: list[Score]
    seconds: float  # of all epochs
    share_of_loss: float  # of that time


def train(texts: Texts, components: Tensor, loss_of: LossFunction, epochs: int, name: str) -> Run:
    torch.manual_seed(0)
    towers = nn.ModuleList([Tower(components), Tower(components)])
    optimizer = torch.optim.AdamW(towers.parameters(), lr=1e-3, weight_decay=0.01)
    run, in_loss = Run([], 0.0, 0.0), 0.0
    steps = len(texts.train) // BATCH
    for _ in trange(epochs, desc=f"code search: {name}", leave=False):
        start = time.perf_counter()
        towers.train()
        for batch in texts.train[torch.randperm(len(texts.train))][: steps * BATCH].split(BATCH):
            embedded = [
                tower(side[batch])
                for tower, side in zip(towers, (texts.docstrings, texts.sources), strict=True)
            ]
            begun = time.perf_counter()
            leaves = [rows.detach().requires_grad_() for rows in embedded]
            loss_of(*leaves).backward()
            in_loss += time.perf_counter() - begun
            optimizer.zero_grad()
            torch.autograd.backward(embedded, [leaf.grad for leaf in leaves])
            optimizer.step()
        run.seconds += time.perf_counter() - start
        towers.eval()
        with torch.no_grad():
            sides = (texts.docstrings[texts.test], texts.sources[texts.test])
            run.curve.append(_score(*(tower(side) for tower, side in zip(towers, sides, strict=True))))
    run.share_of_loss = in_loss / run.seconds
    return run


def costs() -> str:
    """A step of fused_rank and of eager losses, the latter also at the largest batch that fits."""
    lines = ["| loss | batch | seconds a step | memory of a step |", "|---|---|---|---|"]
    for loss in tqdm(list(step_cost.LOSSES), desc="code search: cost of a step"):
        rows, cost = BATCH, step_cost.measure(loss, BATCH, WIDTH, limit=MEMORY_LIMIT)
        while cost.peak is None and rows > 64:
            lines.append(f"| {loss} | {rows} | does not fit in {MEMORY_LIMIT >> 30} GiB | |")
            rows //= 2
            cost = step_cost.measure(loss, rows, WIDTH, limit=MEMORY_LIMIT)
        lines.append(f"| {loss} | {rows} | {cost.seconds:.3f} | {(cost.peak or 0) / 2**20:.0f} MiB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/results"))
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    texts = read(seed=0)
    training = torch.cat([texts.docstrings[texts.train], texts.sources[texts.train]])
    components = principal_components(training, WIDTH)
    runs = {name: train(texts, components, loss, options.epochs, name) for name, loss in losses().items()}
    plots.curves(
        options.out / "code_search.png",
        {name: [score.mrr for score in run.curve] for name, run in runs.items()},
        texts.tfidf.mrr,
    )
    lines = [
        f"{len(texts.train) + len(texts.test):,} pairs, {len(texts.test):,} of them in held-out modules.\n",
        "| | MRR | over TF-IDF | Recall@10 | training | of it in the loss |",
        "|---|---|---|---|---|---|",
        f"| TF-IDF | {texts.tfidf.mrr:.3f} | | {texts.tfidf.recall:.3f} | | |",
    ]
    for name, run in runs.items():
        last = run.curve[-1]
        lines.append(
            f"| {name} | {last.mrr:.3f} | {last.mrr - texts.tfidf.mrr:+.3f} | {last.recall:.3f} | {run.seconds:.0f} s"
            f" | {100 * run.share_of_loss:.0f} % |"
        )
    text = "\n".join(lines) + "\n\n" + costs()
    (options.out / "code_search.md").write_text(text + "\n")
    (options.out / "code_search.json").write_text(
        json.dumps({name: asdict(run) for name, run in runs.items()}, indent=1)
    )
    print(text)


if __name__ == "__main__":
    main()

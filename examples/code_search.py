"""Code search: find a function by its docstring, with two towers trained in batches of 2048 pairs.

The pairs are real: every documented function and class of the Python standard library, torch, numpy and scikit-learn.
Both texts become TF-IDF weighted counts of words and character n-grams, and those 1024 principal components, evened
out; each tower is a linear map that starts as the identity. In-batch N-pairs and cross-modal triplets with each mining
are compared with plain TF-IDF on modules that no training saw; other modules choose the epoch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
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

BATCH = 2048
HASHED, WIDTH = 4096, 1024
EPOCHS, LEARNING_RATE = 6, 3e-3
COST_BATCH, COST_WIDTH = 4096, 512
MEMORY_LIMIT = 4 << 30  # bytes that a step may take, for "the largest batch it can hold"


@dataclass
class Score:
    mrr: float
    recall: float  # Recall@10


@dataclass
class Texts:
    """Components [N, 1024] of docstrings and sources, and which of the pairs serve for what."""

    docstrings: Tensor
    sources: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    tfidf: Score  # of the test


def read(seed: int) -> Texts:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        pairs = code_pairs.collect(pool)
        counts = [_counts([getattr(pair, side) for pair in pairs], pool) for side in ("docstring", "source")]
    test, validation, train = code_pairs.split_by_module(pairs, (0.15, 0.1), seed)
    weighting = TfidfTransformer(sublinear_tf=True).fit(sparse.vstack([side[train] for side in counts]))
    docstrings, sources = (weighting.transform(side).astype(np.float32) for side in counts)
    sketch = _sketch(docstrings.shape[1], seed)
    hashed = [torch.tensor((side @ sketch).toarray()) for side in (docstrings, sources)]
    components = _components(torch.cat([side[train[::4]] for side in hashed]), seed)
    return Texts(
        normalize(hashed[0] @ components),
        normalize(hashed[1] @ components),
        train=torch.tensor(train),
        validation=torch.tensor(validation),
        test=torch.tensor(test),
        tfidf=_sparse_score(docstrings[test], sources[test]),
    )


def _counts(texts: list[str], pool: ProcessPoolExecutor) -> sparse.csr_matrix:
    parts = [texts[k : k + 1000] for k in range(0, len(texts), 1000)]
    done = tqdm(pool.map(_count, parts), desc="counting words and n-grams", total=len(parts), leave=False)
    return sparse.vstack(list(done)).tocsr()


def _count(texts: list[str]) -> sparse.csr_matrix:
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


def _components(rows: Tensor, seed: int) -> Tensor:
    """[HASHED, WIDTH]: principal components, each divided by the square root of its deviation: half whitened."""
    torch.manual_seed(seed)
    _, deviations, vectors = torch.svd_lowrank(rows, WIDTH, niter=1)
    return vectors / deviations.sqrt()


def _sparse_score(docstrings: sparse.csr_matrix, sources: sparse.csr_matrix) -> Score:
    similar = (docstrings @ sources.T).toarray()
    rank = 1 + (similar > similar.diagonal()[:, None]).sum(1)
    return Score(float((1 / rank).mean()), float((rank <= 10).mean()))


def _score(docstrings: Tensor, sources: Tensor) -> Score:
    found = evaluate(docstrings, gallery=sources, metric="cosine", k=10)
    return Score(found.mrr, found.recall[10])


class Tower(nn.Module):
    """[B, 1024] -> [B, 1024], on the unit sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.project = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(self, rows: Tensor) -> Tensor:
        return normalize(self.project(self.drop(rows)))


def losses() -> dict[str, nn.Module]:
    """Row i's only positive is row i of the other side, in both directions."""
    triplets = {
        f"triplet, {mining}": fused_rank.TripletMarginLoss(mining=mining, symmetric=True)
        for mining in ("semihard", "hard", "all")
    }
    return {"in-batch N-pairs": fused_rank.InfoNCELoss(temperature=0.05, symmetric=True), **triplets}


@dataclass
class Run:
    """One training; `curve` has the test score before it and after each epoch, `validation` the MRR there."""

    curve: list[Score]
    validation: list[float]
    seconds: float  # of all epochs
    share_of_loss: float  # of that time

    @property
    def best(self) -> int:
        """The epoch that the validation modules choose."""
        return max(range(len(self.validation)), key=self.validation.__getitem__)


def train(texts: Texts, loss_of: nn.Module, name: str) -> Run:
    torch.manual_seed(0)
    towers = nn.ModuleList([Tower(), Tower()])
    optimizer = torch.optim.AdamW(towers.parameters(), LEARNING_RATE, weight_decay=0.01)
    steps = EPOCHS * (len(texts.train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, anneal_strategy="linear")
    run, in_loss = Run([], [], 0.0, 0.0), 0.0

    def embed(rows: Tensor) -> list[Tensor]:
        return [
            tower(side[rows]) for tower, side in zip(towers, (texts.docstrings, texts.sources), strict=True)
        ]

    def judge() -> None:
        towers.eval()
        with torch.no_grad():
            run.curve.append(_score(*embed(texts.test)))
            run.validation.append(_score(*embed(texts.validation)).mrr)
        towers.train()

    judge()
    for _ in trange(EPOCHS, desc=f"code search: {name}", leave=False):
        start = time.perf_counter()
        shuffled = texts.train[torch.randperm(len(texts.train))]
        for batch in shuffled[: steps // EPOCHS * BATCH].split(BATCH):
            embedded = embed(batch)
            begun = time.perf_counter()
            leaves = [rows.detach().requires_grad_() for rows in embedded]
            loss_of(leaves[0], gallery=leaves[1]).backward()
            in_loss += time.perf_counter() - begun
            optimizer.zero_grad()
            torch.autograd.backward(embedded, [leaf.grad for leaf in leaves])
            optimizer.step()
            schedule.step()
        run.seconds += time.perf_counter() - start
        judge()
    run.share_of_loss = in_loss / run.seconds
    return run


def costs() -> str:
    """A step of fused_rank and of eager losses, the latter also at the largest batch that fits."""
    lines = ["| loss | batch | seconds a step | memory of a step |", "|---|---|---|---|"]
    for loss in tqdm(list(step_cost.LOSSES), desc="code search: cost of a step"):
        rows, cost = COST_BATCH, step_cost.measure(loss, COST_BATCH, COST_WIDTH, limit=MEMORY_LIMIT)
        while cost.peak is None and rows > 64:
            lines.append(f"| {loss} | {rows} | does not fit in {MEMORY_LIMIT >> 30} GiB | |")
            rows //= 2
            cost = step_cost.measure(loss, rows, COST_WIDTH, limit=MEMORY_LIMIT)
        lines.append(f"| {loss} | {rows} | {cost.seconds:.3f} | {(cost.peak or 0) / 2**20:.0f} MiB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    texts = read(seed=0)
    runs = {name: train(texts, loss, name) for name, loss in losses().items()}
    plots.curves(
        options.out / "code_search.png",
        {name: [score.mrr for score in run.curve] for name, run in runs.items()},
        texts.tfidf.mrr,
    )
    parts = [len(part) for part in (texts.train, texts.validation, texts.test)]
    lines = [
        "{:,} pairs to train on, {:,} in modules that choose, {:,} in modules of the test.\n".format(*parts),
        "| | MRR | over TF-IDF | Recall@10 | epoch | training | of it in the loss |",
        "|---|---|---|---|---|---|---|",
        f"| TF-IDF | {texts.tfidf.mrr:.3f} | | {texts.tfidf.recall:.3f} | | | |",
    ]
    start = next(iter(runs.values())).curve[0]
    gain = start.mrr - texts.tfidf.mrr
    lines.append(f"| before training | {start.mrr:.3f} | {gain:+.3f} | {start.recall:.3f} | | | |")
    for name, run in runs.items():
        best = run.curve[run.best]
        lines.append(
            f"| {name} | {best.mrr:.3f} | {best.mrr - texts.tfidf.mrr:+.3f} | {best.recall:.3f}"
            f" | {run.best} | {run.seconds:.0f} s | {100 * run.share_of_loss:.0f} % |"
        )
    text = "\n".join(lines) + "\n\n" + costs()
    (options.out / "code_search.md").write_text(text + "\n")
    kept = {name: asdict(run) for name, run in runs.items()}
    (options.out / "code_search.json").write_text(json.dumps(kept, indent=1))
    print(text)


if __name__ == "__main__":
    main()

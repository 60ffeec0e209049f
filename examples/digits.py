"""Handwritten digits: every loss, judged on digits that it never saw.

Real images (scikit-learn's, 8×8), tilted and shifted at random as a camera would. One small network is trained under
K×P sampling with each loss and mining, on three splits of the digits; learning rate and number of steps are those that
do best on validation digits. Raw pixels and a classifier's features are the baselines. Also drawn: the embedding before
and after, and triplet counts over time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import digit_classes
import plots
from digit_classes import SPLITS, Data
from digit_training import losses, network, train
from fused_rank import mining
from fused_rank.retrieval import evaluate

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
JUDGED_AT = (100, 150)  # steps


@dataclass(frozen=True)
class Score:
    """On digits never trained on, in per cent."""

    recall: float  # Recall@1, disturbed images
    map_at_r: float
    upright_recall: float  # the same on the images as scanned
    upright_map: float


@dataclass(frozen=True)
class Run:
    """One loss on one split at one learning rate, after so many steps."""

    loss: str
    split: int
    learning_rate: float
    steps: int
    validation: float  # Recall@1
    score: Score


@torch.no_grad()
def score(embed: Callable[[Tensor], Tensor], data: Data) -> Score:
    found = [
        evaluate(embed(images), labels, normalize=True, k=1) for images, labels in (data.test, data.upright)
    ]
    return Score(*(100 * value for one in found for value in (one.recall[1], one.map_at_r)))


def one_run(loss: str, split: int, learning_rate: float) -> list[Run]:
    """As judged at each of `JUDGED_AT`."""
    torch.set_num_threads(1)
    torch.manual_seed(split)
    data, embed, runs = digit_classes.load(split), network(), []

    def judge(step: int, *_: Tensor) -> None:
        if step in JUDGED_AT:
            images, labels = data.validation
            with torch.no_grad():
                validation = evaluate(embed(images), labels, normalize=True, k=1).recall[1]
            runs.append(Run(loss, split, learning_rate, step, 100 * validation, score(embed, data)))

    train(embed, data, losses()[loss], learning_rate, seed=split, watch=judge)
    return runs


def compare() -> dict[str, list[Run]]:
    """For every loss the run of each split that does best on its validation digits; two processes, a thread each."""
    tasks = list(product(losses(), range(len(SPLITS)), LEARNING_RATES))
    best: dict[str, dict[int, Run]] = {loss: {} for loss in losses()}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        done = pool.map(one_run, *zip(*tasks, strict=True))
        for runs in tqdm(done, desc="digits: losses", total=len(tasks)):
            for run in runs:
                kept = best[run.loss].get(run.split)
                if kept is None or run.validation > kept.validation:
                    best[run.loss][run.split] = run
    return {loss: list(of_split.values()) for loss, of_split in best.items()}


def table_text(best: dict[str, list[Run]], pixels: list[Score]) -> str:
    """Markdown, best first: means over the splits, and the least and greatest gain."""
    table = {name: [run.score for run in runs] for name, runs in best.items()} | {"raw pixels": pixels}
    gains = {
        name: [own.recall - raw.recall for own, raw in zip(scores, pixels, strict=True)]
        for name, scores in table.items()
    }
    lines = [
        "| loss | Recall@1 | over raw pixels | least to greatest | mAP@R | Recall@1, upright | mAP@R, upright |"
        " learning rates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(table, key=lambda name: -sum(gains[name])):
        mean = average(table[name])
        rates = " ".join(f"{run.learning_rate:g}" for run in best.get(name, []))
        lines.append(
            f"| {name} | {mean.recall:.1f} | {sum(gains[name]) / len(pixels):+.1f}"
            f" | {min(gains[name]):+.1f} to {max(gains[name]):+.1f} | {mean.map_at_r:.1f}"
            f" | {mean.upright_recall:.1f} | {mean.upright_map:.1f} | {rates} |"
        )
    return "\n".join(lines)


def average(scores: list[Score]) -> Score:
    return Score(*torch.tensor([list(asdict(one).values()) for one in scores]).mean(0).tolist())


def draw_semihard(out: Path, learning_rate: float) -> None:
    """The first split's embedding before and after, and its triplets, as semi-hard training goes on."""
    torch.manual_seed(0)
    data, embed = digit_classes.load(0), network()
    at: list[int] = []
    counts: list[mining.TripletStats] = []

    def watch(step: int, embeddings: Tensor, labels: Tensor, _: Tensor) -> None:
        if step % 5 == 0:
            at.append(step)
            counts.append(mining.triplet_stats(embeddings, labels))

    images, labels = data.test
    with torch.no_grad():
        before = embed(images)
    train(embed, data, losses()["triplet, semi-hard"], learning_rate, watch=watch)
    with torch.no_grad():
        plots.embeddings(out / "digits_embedding.png", before, embed(images), labels)
    plots.triplets(out / "digits_triplets.png", at, counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # batches of 128 small images: more threads would wait for one another

    best = compare()
    pixels = [
        score(lambda images: images.flatten(1), digit_classes.load(split)) for split in range(len(SPLITS))
    ]
    means = {name: average([run.score for run in runs]) for name, runs in best.items()}
    means["raw pixels"] = average(pixels)
    plots.scores(
        options.out / "digits_losses.png",
        {name: (mean.recall, mean.map_at_r) for name, mean in means.items()},
        means["raw pixels"].recall,
    )
    draw_semihard(options.out, best["triplet, semi-hard"][0].learning_rate)
    text = table_text(best, pixels)
    (options.out / "digits.md").write_text(text + "\n")
    kept = {name: [asdict(run) for run in runs] for name, runs in best.items()}
    (options.out / "digits.json").write_text(json.dumps(kept, indent=1))
    print(text)


if __name__ == "__main__":
    main()

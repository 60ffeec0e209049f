"""Collapse, and what tells of it: hard mining at too high a learning rate, without normalisation, on the digits.

Everything goes to one point: the loss rests at its margin, and held-out Recall@1 falls to chance. Beside it the
remedies: a lower rate, with and without normalisation, and semi-hard mining.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import digit_classes
import plots
from digit_training import network, train
from fused_rank import TripletMarginLoss
from fused_rank.diagnostics import EmbeddingHealth, embedding_health
from fused_rank.mining import TripletStats, triplet_stats
from fused_rank.retrieval import evaluate

MARGIN = 0.2
SHOWN = (1, 3, 10, 40, 150)  # steps in the table


@dataclass
class Watched:
    """A training, looked at in each of the first ten steps and in every tenth."""

    name: str
    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)  # Recall@1 of held-out digits
    health: list[EmbeddingHealth] = field(default_factory=list)
    triplets: list[TripletStats] = field(default_factory=list)

    @property
    def told(self) -> int | None:
        """The first look at which `embedding_health` found a problem."""
        return next((look for look, health in enumerate(self.health) if health.problems), None)


def watched(name: str, loss_of: TripletMarginLoss, learning_rate: float) -> Watched:
    torch.manual_seed(0)
    data, embed, seen = digit_classes.load(0), network(), Watched(name)
    images, held_out = data.test
    normalize = loss_of.normalize

    def watch(step: int, embeddings: Tensor, labels: Tensor, loss: Tensor) -> None:
        if step > 10 and step % 10:
            return
        seen.step.append(step)
        seen.loss.append(float(loss))
        seen.health.append(embedding_health(embeddings, labels, normalize=normalize, warn=False))
        seen.triplets.append(triplet_stats(embeddings, labels, margin=MARGIN, normalize=normalize))
        with torch.no_grad():
            seen.recall.append(evaluate(embed(images), held_out, normalize=normalize, k=1).recall[1])

    train(embed, data, loss_of, learning_rate, watch=watch)
    return seen


def table_text(runs: list[Watched]) -> str:
    lines = [
        "| | step | loss | spread | effective rank | negative pairs within 0.05 | hard triplets | Recall@1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        for look in map(run.step.index, SHOWN):
            health, triplets = run.health[look], run.triplets[look]
            lines.append(
                f"| {run.name} | {run.step[look]} | {run.loss[look]:.3f} | {health.spread:.3f}"
                f" | {health.effective_rank:.1f} | {health.near_negative:.1%}"
                f" | {triplets.hard / triplets.triplets:.1%} | {100 * run.recall[look]:.1f} |"
            )
    for run in runs:
        told = "nothing"
        if run.told is not None:
            told = f"at step {run.step[run.told]}: {run.health[run.told].problems[0]}"
        lines.append(f"\n{run.name}, `embedding_health` told {told}.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    trainings = [
        ("hard, rate 5e-2", TripletMarginLoss(MARGIN, "hard", normalize=False), 5e-2),
        ("hard, rate 3e-4", TripletMarginLoss(MARGIN, "hard", normalize=False), 3e-4),
        ("hard, rate 3e-4, normalised", TripletMarginLoss(MARGIN, "hard"), 3e-4),
        ("semi-hard, rate 5e-2", TripletMarginLoss(MARGIN, "semihard", normalize=False), 5e-2),
    ]
    runs = [watched(*training) for training in tqdm(trainings, desc="collapse")]
    plots.collapse(options.out / "collapse.png", runs, MARGIN)
    text = table_text(runs)
    (options.out / "collapse.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

"""Handwritten digits: every loss, trained on the digits 0 to 5 and judged on 6 to 9, which it never saw.

Real images (scikit-learn's, 8×8), tilted and shifted at random as a camera would. A small network is trained under K×P
sampling with each loss and mining; raw pixels and a classifier's features are the baselines. Also drawn: the
embedding before and after, triplet counts over time, and the collapse of hard mining under too high a learning rate.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import fused_rank
import plots
from fused_rank import mining
from fused_rank.batches import PKSampler
from fused_rank.diagnostics import embedding_health
from fused_rank.retrieval import evaluate

SEEN_DIGITS, TURNS = 6, 8
CLASSES_PER_BATCH, IMAGES_PER_CLASS = 16, 16
WIDTH = 64

LossFunction = Callable[[Tensor, Tensor], Tensor]


def losses() -> dict[str, LossFunction]:
    """Every loss at its defaults; triplets once for each mining."""
    return {
        "ranked list": fused_rank.RankedListLoss(),
        "contrastive": fused_rank.ContrastiveLoss(),
        "triplet, semi-hard": fused_rank.TripletMarginLoss(),
        "triplet, hard, soft margin": fused_rank.TripletMarginLoss(0.0, "hard", soft_margin=True),
        "triplet, all": fused_rank.TripletMarginLoss(mining="all"),
        "N-pairs": fused_rank.NPairsLoss(),
        "NT-Xent": fused_rank.NTXentLoss(),
        "SupCon": fused_rank.SupConLoss(),
        "angular": fused_rank.AngularLoss(pairs="all"),
        "multi-similarity": fused_rank.MultiSimilarityLoss(),
        "circle": fused_rank.CircleLoss(),
        "lifted structure": fused_rank.GeneralizedLiftedStructureLoss(),
        "margin": fused_rank.MarginLoss(),
    }


class Network(nn.Module):
    """Three convolutions and a linear layer: [B, 1, 8, 8] -> [B, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, WIDTH),
        )

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.layers(images)
        return embeddings


def disturb(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn by up to 20°, shift by up to one pixel and a half, scale by up to 15 %."""
    count = images.shape[0]
    turn, across, down, scale = torch.rand(4, count, generator=generator) * 2 - 1
    angle, zoom = turn * math.radians(20), 1 + 0.15 * scale
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = torch.stack([cos, -sin, across * 3 / 8, sin, cos, down * 3 / 8], 1).view(count, 2, 3)
    grid = F.affine_grid(rows, [count, 1, 8, 8], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@dataclass
class Data:
    """Images [N, 1, 8, 8] in [0, 1] and labels; the held-out images as they are and disturbed."""

    train: tuple[Tensor, Tensor]
    upright: tuple[Tensor, Tensor]
    disturbed: tuple[Tensor, Tensor]


def load(seed: int) -> Data:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    seen = labels < SEEN_DIGITS
    held_out = images[~seen], labels[~seen]
    generator = torch.Generator().manual_seed(seed)
    disturbed = disturb(held_out[0], generator), held_out[1]
    return Data(turned(images[seen], labels[seen]), held_out, disturbed)


def turned(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each digit in quarter turns, and mirrored, as a class of its own: 48 classes out of six digits."""
    views = [torch.rot90(images, turn % 4, (2, 3)) for turn in range(TURNS)]
    views[4:] = [view.flip(3) for view in views[4:]]
    return torch.cat(views), torch.cat([labels + SEEN_DIGITS * turn for turn in range(TURNS)])


@dataclass
class Score:
    """On classes never trained on."""

    recall: float  # Recall@1, disturbed images
    map_at_r: float
    upright_recall: float  # the same on the images as they are
    upright_map: float


@torch.no_grad()
def score(embed: Callable[[Tensor], Tensor], data: Data) -> Score:
    found = [
        evaluate(embed(images), labels, normalize=True, k=1)
        for images, labels in (data.disturbed, data.upright)
    ]
    return Score(found[0].recall[1], found[0].map_at_r, found[1].recall[1], found[1].map_at_r)


class Trainer:
    """One network, batches of K classes × P disturbed images."""

    def __init__(self, data: Data, seed: int, learning_rate: float = 1e-3) -> None:
        torch.manual_seed(seed)
        self.network = Network()
        self.learning_rate = learning_rate
        self.generator = torch.Generator().manual_seed(seed)
        sampler = PKSampler(data.train[1], CLASSES_PER_BATCH, IMAGES_PER_CLASS, seed=seed)
        self.loader = DataLoader(TensorDataset(*data.train), batch_sampler=sampler)
        self.sampler = sampler

    def run(
        self, loss_of: LossFunction, steps: int, *, watch: Callable[[int, Tensor, Tensor], None] | None = None
    ) -> None:
        """`watch(step, embeddings, labels)` sees each batch as it was trained on."""
        trained = [*self.network.parameters()]
        if isinstance(loss_of, nn.Module):
            trained += [*loss_of.parameters()]
        optimizer = torch.optim.Adam(trained, self.learning_rate)
        step = epoch = 0
        while step < steps:
            self.sampler.set_epoch(epoch)
            epoch += 1
            for images, labels in self.loader:
                if step == steps:
                    break
                embeddings = self.network(disturb(images, self.generator))
                loss = loss_of(embeddings, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if watch is not None:
                    watch(step, embeddings.detach(), labels)
                step += 1


class Classifier(nn.Module):
    """Cross-entropy over the trained classes; its input is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, SEEN_DIGITS * TURNS)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.head(embeddings.relu()), labels)


def compare(data: Data, seeds: int, steps: int) -> dict[str, Score]:
    """Every loss, the mean over the seeds."""
    table = {"raw pixels": score(lambda images: images.flatten(1), data)}
    rows: dict[str, LossFunction] = {"cross-entropy": Classifier(), **losses()}
    for name, loss in tqdm(rows.items(), desc="digits: losses"):
        scores = []
        for seed in range(seeds):
            trainer = Trainer(data, seed)
            trainer.run(copy.deepcopy(loss), steps)
            scores.append(score(trainer.network, data))
        table[name] = Score(*torch.tensor([list(asdict(s).values()) for s in scores]).mean(0).tolist())
    return table


def watch_triplets(data: Data, steps: int) -> tuple[list[int], list[mining.TripletStats], Trainer]:
    """Triplet counts of the batches, as semi-hard training goes on."""
    at: list[int] = []
    counts: list[mining.TripletStats] = []

    def watch(step: int, embeddings: Tensor, labels: Tensor) -> None:
        if step % 10 == 0:
            at.append(step)
            counts.append(mining.triplet_stats(embeddings, labels))

    trainer = Trainer(data, seed=0)
    trainer.run(fused_rank.TripletMarginLoss(), steps, watch=watch)
    return at, counts, trainer


@dataclass
class Collapse:
    """Hard mining at one learning rate."""

    learning_rate: float
    effective_rank: list[float]
    loss: list[float]
    warned_at: int | None  # the first step at which `embedding_health` warned


def provoke_collapse(data: Data, learning_rate: float, steps: int) -> Collapse:
    found = Collapse(learning_rate, [], [], None)
    hard = fused_rank.TripletMarginLoss(0.2, "hard")

    def watch(step: int, embeddings: Tensor, labels: Tensor) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            health = embedding_health(embeddings, labels)
        if caught and found.warned_at is None and step > 0:
            found.warned_at = step
        found.effective_rank.append(health.effective_rank)
        found.loss.append(float(hard(embeddings, labels)))

    Trainer(data, seed=0, learning_rate=learning_rate).run(hard, steps, watch=watch)
    return found


def table_text(table: dict[str, Score]) -> str:
    """Markdown, best first."""
    pixels = table["raw pixels"]
    lines = [
        "| loss | Recall@1 | over raw pixels | mAP@R | Recall@1, upright | mAP@R, upright |",
        "|---|---|---|---|---|---|",
    ]
    for name, s in sorted(table.items(), key=lambda row: -row[1].recall):
        gain = f"{100 * (s.recall - pixels.recall):+.1f}"
        lines.append(
            f"| {name} | {100 * s.recall:.1f} | {gain} | {100 * s.map_at_r:.1f}"
            f" | {100 * s.upright_recall:.1f} | {100 * s.upright_map:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/results"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=240)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # batches of 256 small images: more threads would wait for one another

    data = load(seed=0)
    table = compare(data, options.seeds, options.steps)
    at, counts, trainer = watch_triplets(data, options.steps)
    collapses = [provoke_collapse(data, rate, options.steps) for rate in (1e-3, 3e-2)]

    images, labels = data.disturbed
    torch.manual_seed(0)
    with torch.no_grad():
        before, after = Network()(images), trainer.network(images)
    plots.embeddings(options.out / "digits_embedding.png", before, after, labels)
    plots.scores(
        options.out / "digits_losses.png", {name: (s.recall, s.map_at_r) for name, s in table.items()}
    )
    plots.triplets(options.out / "digits_triplets.png", at, counts)
    plots.collapse(options.out / "digits_collapse.png", collapses)

    text = table_text(table)
    for one in collapses:
        when = "never" if one.warned_at is None else f"at step {one.warned_at}"
        text += (
            f"\n\nHard mining at learning rate {one.learning_rate:g}: effective rank {one.effective_rank[0]:.1f} ->"
            f" {one.effective_rank[-1]:.1f}, loss {one.loss[0]:.3f} -> {one.loss[-1]:.3f}, warned {when}."
        )
    (options.out / "digits.md").write_text(text + "\n")
    (options.out / "digits.json").write_text(
        json.dumps({name: asdict(s) for name, s in table.items()}, indent=1)
    )
    print(text)


if __name__ == "__main__":
    main()

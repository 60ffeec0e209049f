"""The network of the digits, the loop that trains it, and what it is trained with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fused_rank
from digit_classes import MOST_CLASSES, Data, disturb
from fused_rank import mining
from fused_rank.batches import PKSampler

CLASSES_PER_BATCH, IMAGES_PER_CLASS = 16, 8
STEPS = 150
WIDTH = 256


def network() -> nn.Sequential:
    """[B, 1, 8, 8] -> [B, 256]: sixteen numbers for each of 4×4 places.

    No layer mixes distant places, so strokes are what it learns, and other digits have strokes too.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, WIDTH // 16, 1),
        nn.Flatten(),
    )


def train(
    embed: nn.Module,
    data: Data,
    loss_of: nn.Module,
    learning_rate: float,
    *,
    seed: int = 0,
    watch: Callable[[int, Tensor, Tensor, Tensor], None] | None = None,
) -> None:
    """`STEPS` batches of K classes × P disturbed images; `watch(step, embeddings, labels, loss)` after each."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = data.train
    sampler = PKSampler(labels, CLASSES_PER_BATCH, IMAGES_PER_CLASS, seed=seed)
    optimizer = torch.optim.Adam([*embed.parameters(), *loss_of.parameters()], learning_rate)
    step = epoch = 0
    while step < STEPS:
        sampler.set_epoch(epoch)
        epoch += 1
        for batch in sampler:
            embeddings = embed(disturb(images[batch], generator))
            loss = loss_of(embeddings, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if watch is not None:
                watch(step, embeddings.detach(), labels[batch], loss.detach())
            if step == STEPS:
                break


class Classifier(nn.Module):
    """Cross-entropy over the trained classes; its input is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, MOST_CLASSES)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.head(embeddings.relu()), labels)


class EasyPositive(nn.Module):
    """Each row's nearest positive against its nearest negative (Xuan et al., 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.triplet = fused_rank.TripletMarginLoss()

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        positive, negative = mining.partners(embeddings.detach(), labels, positive="easy", negative="hard")
        anchor = torch.arange(len(labels))
        value: Tensor = self.triplet(embeddings, triplets=(anchor, positive, negative))
        return value


class SemiHardFirst(nn.Module):
    """`after`, once the first steps were semi-hard."""

    def __init__(self, after: fused_rank.TripletMarginLoss, steps: int) -> None:
        super().__init__()
        self.after, self.steps = after, steps
        self.before = fused_rank.TripletMarginLoss(
            after.margin, "semihard", normalize=after.normalize, metric=after.metric
        )

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.steps -= 1
        value: Tensor = (self.before if self.steps >= 0 else self.after)(embeddings, labels)
        return value


def losses() -> dict[str, nn.Module]:
    """Defaults, but N-pairs and lifted structure without normalisation, as their papers have it.

    Of a few margins of contrastive and circle, and scales of the latter, those that did best on validation digits.
    """
    triplet = fused_rank.TripletMarginLoss
    return {
        "cross-entropy": Classifier(),
        "ranked list": fused_rank.RankedListLoss(),
        "contrastive": fused_rank.ContrastiveLoss(neg_margin=0.5),
        "triplet, semi-hard": triplet(),
        "triplet, easy positive": EasyPositive(),
        "triplet, all": triplet(mining="all"),
        "triplet, hard": triplet(mining="hard"),
        "triplet, hard after semi-hard": SemiHardFirst(triplet(mining="hard"), STEPS // 2),
        "N-pairs": fused_rank.NPairsLoss(l2=0.002, normalize=False),
        "NT-Xent": fused_rank.NTXentLoss(),
        "SupCon": fused_rank.SupConLoss(),
        "angular": fused_rank.AngularLoss(pairs="all"),
        "multi-similarity": fused_rank.MultiSimilarityLoss(),
        "circle": fused_rank.CircleLoss(m=0.25, gamma=16),
        "lifted structure": fused_rank.GeneralizedLiftedStructureLoss(normalize=False),
        "margin": fused_rank.MarginLoss(),
    }

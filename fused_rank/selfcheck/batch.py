"""What the checks run on: embeddings with classes, on the device and in fp64."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import oracle

# (M, N or None for self form, D): none a multiple of a tile; the last is wider than a slice of D.
SHAPES: tuple[tuple[int, int | None, int], ...] = ((69, None, 40), (37, 83, 40), (69, None, 275))


@dataclass
class Batch:
    """Embeddings as handed over and, for the oracle, the same numbers in fp64 on the CPU."""

    x: Tensor
    labels: Tensor
    y: Tensor | None
    y_labels: Tensor | None
    exact_x: Tensor
    exact_y: Tensor | None
    random: torch.Generator

    paired: bool = False  # handed over without labels: row i's positive is gallery row i

    @property
    def gallery(self) -> dict[str, Any]:
        return {} if self.y is None else {"gallery": self.y, "gallery_labels": self.y_labels}

    @property
    def arguments(self) -> dict[str, Any]:
        """What a loss takes beside the embeddings."""
        return {"gallery": self.y} if self.paired else {"labels": self.labels, **self.gallery}

    @property
    def exact_others(self) -> Tensor:
        """What the queries are compared with."""
        return self.exact_x if self.exact_y is None else self.exact_y

    @property
    def masks(self) -> tuple[Tensor, Tensor]:
        return oracle.masks(self.labels.cpu(), None if self.y_labels is None else self.y_labels.cpu())

    def distances(self, metric: str = "euclidean", normalize: bool = True, detach: bool = False) -> Tensor:
        y = self.exact_others
        return oracle.distances(self.exact_x, y.detach() if detach else y, metric, normalize)

    def two_sets(self) -> "Batch":
        """The same with a gallery: in self form the second half of the rows, whose gradients go to the whole."""
        if self.y is not None:
            return self
        at = len(self.x) // 2
        (x, y), (exact_x, exact_y) = ((t[:at], t[at:]) for t in (self.x, self.exact_x))
        return Batch(x, self.labels[:at], y, self.labels[at:], exact_x, exact_y, self.random)

    def pairs(self) -> "Batch":
        """Two sets of equal size, in plain pairing."""
        sets = self.two_sets()
        assert sets.y is not None
        assert sets.exact_y is not None
        rows = min(len(sets.x), len(sets.y))
        labels = torch.arange(rows, device=sets.x.device)
        (x, y), (exact_x, exact_y) = (
            (a[:rows], b[:rows]) for a, b in ((sets.x, sets.y), (sets.exact_x, sets.exact_y))
        )
        return Batch(x, labels, y, labels, exact_x, exact_y, self.random, paired=True)


def make_batch(
    m: int, n: int | None, width: int, dtype: torch.dtype, device: torch.device, seed: int
) -> Batch:
    """Classes of about four rows that share more or less of one direction: pairs on both sides of every margin."""
    random = torch.Generator().manual_seed(seed)
    total = m + (n or 0)
    labels = torch.randint(0, total // 4, (total,), generator=random)
    common, centres, noise = (
        torch.randn(rows, width, generator=random, dtype=torch.float64) / width**0.5
        for rows in (1, total // 4, total)
    )
    shared = torch.rand(total, 1, generator=random, dtype=torch.float64) + 0.5
    rows = (shared * common + 0.6 * centres[labels] + 0.8 * noise).to(dtype)

    def leaf(part: Tensor) -> tuple[Tensor, Tensor]:
        exact = part.to(torch.float64, copy=True).requires_grad_()
        return part.to(device, copy=True).requires_grad_(), exact

    x, exact_x = leaf(rows[:m])
    y, exact_y = leaf(rows[m:]) if n is not None else (None, None)
    labels = labels.to(device)
    return Batch(x, labels[:m], y, labels[m:] if n is not None else None, exact_x, exact_y, random)

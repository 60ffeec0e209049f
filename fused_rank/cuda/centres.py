"""The points that packed rows are stored relative to, so that squared distances keep their digits.

|x|² + |y|² − 2x·y cancels for rows that are close compared with their norms, and distances do not move under
translation. Centre 0 is the mean of all rows; a batch that has collapsed into tight clusters gets one centre for each,
up to 15. Everything stays on the rows' device, and nothing waits for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .rows import Rows

MOST = 16
_SAMPLE = 64  # rows looked at
_FEWEST = 256  # a smaller side has no clusters worth a centre
_TIGHT = 1 / 256  # a cluster's radius, of the squared distance to the mean
_FAR_NEARER = 1 / 64  # a row leaves the mean for a centre at that share of the squared distance
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Centres:
    """Points [C, D], fp64; unused ones are the mean again, and no row's own."""

    at: Tensor  # [C, D]
    used: Tensor  # bool [C]

    @property
    def count(self) -> int:
        return self.at.shape[0]

    @property
    def gaps(self) -> Tensor:
        """Squared distances between them, [C, C]."""
        return (self.at.unsqueeze(1) - self.at).square().sum(2)

    def nearest(self, rows: Tensor) -> Tensor:
        """The centre of each row [R, D] fp64, int64 [R]: a cluster's only where the row is far nearer to it."""
        if self.count == 1:
            return torch.zeros(rows.shape[0], dtype=torch.int64, device=rows.device)
        x, e = rows - self.at[0], self.at - self.at[0]
        own = x.square().sum(1, keepdim=True)
        squares = (
            own + e.square().sum(1) - 2 * x @ e.t()
        )  # [R, C]; digits enough, since only far nearer counts
        squares = squares.masked_fill(~self.used, torch.inf)
        squares[:, 0] = own[:, 0] * _FAR_NEARER
        return squares.argmin(1)


def no_centre(rows: Rows) -> Centres:
    """The origin, for inner products."""
    at = rows.exact.new_zeros(1, rows.width)
    return Centres(at, torch.ones(1, dtype=torch.bool, device=at.device))


def choose_centres(sides: list[Rows]) -> Centres:
    """The common mean, and the leaders of tight clusters in a sample of the rows."""
    mean = _common_mean(sides).unsqueeze(0)
    large = [side for side in sides if side.size >= _FEWEST]
    if not large:
        return Centres(mean, torch.ones(1, dtype=torch.bool, device=mean.device))
    share = _SAMPLE // len(sides)
    indices = [_spread(share, side.size, mean.device) for side in large]
    sample = torch.cat([side.exact[index] for side, index in zip(large, indices, strict=True)])
    finite = torch.cat([side.finite[index] for side, index in zip(large, indices, strict=True)])
    radius = _TIGHT * (sample - mean).square().sum(1)  # [S]
    squares = (sample.unsqueeze(1) - sample).square().sum(2)  # [S, S]
    close = (squares < radius.unsqueeze(1)) & finite.unsqueeze(1) & finite
    earlier = torch.ones_like(close).tril(-1)
    follows = (close & earlier).any(1)
    leads = finite & ~follows & (close.t() & earlier.t()).any(1)
    first = torch.argsort(~leads, stable=True)[: MOST - 1]  # the leaders, then others
    chosen = leads[first]
    at = torch.where(chosen.unsqueeze(1), sample[first], mean)
    return Centres(torch.cat([mean, at]), torch.cat([torch.ones_like(chosen[:1]), chosen]))


def _spread(count: int, size: int, device: torch.device) -> Tensor:
    """`count` rows of `size`, in golden-ratio steps: spread evenly, in step with no pattern that the rows may have."""
    turns = torch.arange(count, dtype=torch.float64, device=device) * _GOLDEN
    return ((turns - turns.floor()) * size).long()


def _common_mean(sides: list[Rows]) -> Tensor:
    """The mean of all rows [D], on a grid about as fine as the rows are spread out.

    A grid point centres as well, and rows on a grid of their own (small integers) keep exact distances: equal ones tie.
    """
    count = torch.stack([side.finite.sum() for side in sides]).sum().clamp(min=1)
    mean = torch.stack([side.exact.sum(0) for side in sides]).sum(0) / count
    square = torch.stack([side.exact.square().sum() for side in sides]).sum() / count
    spread = square - mean.dot(mean)
    step = torch.exp2(torch.floor(0.5 * torch.log2(spread.clamp(min=1e-300) / mean.shape[0])))
    gridded = step * torch.round(mean / step)
    return torch.where(spread > 1e-12 * square, gridded, mean)  # below, no grid is fine enough to help

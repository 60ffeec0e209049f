"""Tight clusters of rows, and rows relative to their cluster's centre.

In a batch that has collapsed into a few points, a tile's product has no digits left for pairs of one cluster. Relative
to a row in their midst it has, so the second visit of close pairs (`near.py`) multiplies such local rows. The first
visit knows nothing of this: it costs nothing where there are no clusters, and nothing waits to learn whether there are.

Centres are found among 64 rows, evenly spread over the sorted batch: the first of every group there that is much
tighter than it is far from the origin of the product, at most 16.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import LIVE_TILE, local_precision
from .launch import launch
from .side import Side
from .tile import difference_to, is_half, products

FEWEST = 256  # rows of a side; below, a pair at a time is quick enough
_SAMPLE = tl.constexpr(64)
_MOST = tl.constexpr(16)
# Of a row's squared norm: how near another row is in its group, and how near a centre serves it. What a product gives
# too few digits of is nearer still (tile.CLOSE).
_GROUP = tl.constexpr(0.125)
_SERVED = tl.constexpr(0.25)
_DEPTH = 32


class Centres(NamedTuple):
    """Rows that others are stored relative to, [16, …]; members as those of `Side`. norm is -1 for none."""

    rows: Tensor
    low: Tensor
    inverse: Tensor
    norm: Tensor


@triton.jit
def _sample(x, y, rows, columns):
    """64 rows by golden-ratio steps, half of each side: their number, and which are of y."""
    s = tl.arange(0, _SAMPLE)
    of_y = s >= _SAMPLE // 2
    turn = (s * 40503) & 65535
    size = tl.where(of_y, columns, rows).to(tl.int64)
    return ((turn * size) >> 16).to(tl.int32), of_y


@triton.jit
def _of_either(x_pointer, y_pointer, at, of_y, there):
    """Elements of two tensors, each where `of_y` says."""
    first = tl.load(x_pointer + at, mask=there & ~of_y, other=0.0)
    return tl.where(of_y, tl.load(y_pointer + at, mask=there & of_y, other=0.0), first)


@triton.jit(do_not_specialize=["rows", "columns"])
def centre_kernel(x, y, centres, rows, columns, width, LOCAL: tl.constexpr, BK: tl.constexpr):
    """Chooses the centres; one program. `centres.norm` comes filled with -1."""
    number, of_y = _sample(x, y, rows, columns)
    s = tl.arange(0, _SAMPLE)
    norm = _of_either(x.norm, y.norm, number, of_y, s >= 0)
    inverse = _of_either(x.inverse, y.inverse, number, of_y, s >= 0)
    product = tl.zeros([_SAMPLE, _SAMPLE], tl.float32)
    for k0 in range(0, width, BK):
        k = k0 + tl.arange(0, BK)
        at = number.to(tl.int64)[:, None] * width + k[None, :]
        values = _of_either(x.rows, y.rows, at, of_y[:, None], (k < width)[None, :])
        values = values.to(tl.float32) * inverse[:, None]
        product = tl.dot(values, tl.trans(values), product, input_precision=LOCAL)
    squared = norm[:, None] + norm[None, :] - 2.0 * product
    near = (squared < _GROUP * norm[None, :]) & (norm > 0.0)[:, None]  # zero rows are the origin itself
    before = s[None, :] < s[:, None]
    leads = tl.max((near & before).to(tl.int32), 1) == 0
    followed = tl.max((near & (s[:, None] > s[None, :])).to(tl.int32), 0) > 0
    chosen = leads & followed & (norm > 0.0)
    place = tl.sum((chosen[None, :] & before).to(tl.int32), 1)
    chosen = chosen & (place < _MOST)
    tl.store(centres.norm + place, norm, mask=chosen)
    tl.store(centres.inverse + place, inverse, mask=chosen)
    for k0 in range(0, width, BK):
        k = k0 + tl.arange(0, BK)
        at = number.to(tl.int64)[:, None] * width + k[None, :]
        there = chosen[:, None] & (k < width)[None, :]
        to = place[:, None] * width + k[None, :]
        tl.store(centres.rows + to, _of_either(x.rows, y.rows, at, of_y[:, None], there), mask=there)
        tl.store(centres.low + to, _of_either(x.low, y.low, at, of_y[:, None], there), mask=there)


@triton.jit(do_not_specialize=["rows"])
def local_kernel(x, centres, rows, width, LOCAL: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr):
    """Of each row its cluster (-1: none) and, in a cluster, the row relative to the centre and its squared norm."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.arange(0, _MOST)
    own = tl.load(x.norm + i, mask=i < rows, other=0.0)
    centre_norm = tl.load(centres.norm + c)
    there = centre_norm >= 0.0
    precision: tl.constexpr = "ieee" if is_half(x) else LOCAL
    count = tl.sum(there.to(tl.int32), 0)
    product = products(x.rows, centres.rows, i, c, rows, count, width, precision, BK)
    factor = tl.load(x.inverse + i, mask=i < rows, other=0.0)[:, None]
    product *= factor * tl.load(centres.inverse + c, mask=there, other=0.0)[None, :]
    squared = tl.where(there[None, :], own[:, None] + centre_norm[None, :] - 2.0 * product, float("inf"))
    least = tl.min(squared, 1)
    cluster = tl.min(tl.where(squared == least[:, None], c[None, :], _MOST), 1)
    served = (least < _SERVED * own) & (i < rows)
    tl.store(x.cluster + i, tl.where(served, cluster, -1), mask=i < rows)
    if tl.max(served.to(tl.int32), 0) > 0:
        total = tl.zeros([BM], tl.float32)
        for k0 in range(0, width, BK):
            k = k0 + tl.arange(0, BK)
            inside = served[:, None] & (k < width)[None, :]
            local = difference_to(x, centres, i, cluster, k, served, width)
            total += tl.sum(tl.where(inside, local * local, 0.0), 1)
            at = i.to(tl.int64)[:, None] * width + k[None, :]
            tl.store(x.local + at, local, mask=inside)
        tl.store(x.local_norm + i, total, mask=served)


def describe_clusters(x: Side, y: Side) -> None:
    """Fills in what the sides, of at least FEWEST rows each, know of clusters, from centres of both."""
    rows, columns, width = x.rows.shape[0], y.rows.shape[0], x.rows.shape[1]
    most = _MOST.value
    centres = Centres(
        torch.empty_like(x.rows[:most]),
        torch.empty_like(x.low[:most]),
        torch.empty_like(x.inverse[:most]),
        torch.full_like(x.norm[:most], -1),
    )
    arguments = {"x": x, "y": y, "centres": centres, "rows": rows, "columns": columns, "width": width}
    constexprs = {"LOCAL": local_precision(), "BK": _DEPTH}
    launch(centre_kernel, (1,), arguments, constexprs, num_warps=4, num_stages=1)
    for side in (x,) if x is y else (x, y):
        size = side.rows.shape[0]
        launch(
            local_kernel,
            (triton.cdiv(size, LIVE_TILE),),
            {"x": side, "centres": centres, "rows": size, "width": width},
            {**constexprs, "BM": LIVE_TILE},
            num_warps=4,
            num_stages=1,
        )

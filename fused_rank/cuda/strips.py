"""Some queries against the whole gallery, in memory: never more than a few million pairs at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from . import kernels
from .operand import Packed

_ELEMENTS = 1 << 23  # of a strip: 32 MiB in fp32
_LANE = 4  # strides are multiples of it
_FEWEST = 512  # rows in a strip of a triangle: its mirror image costs a pass over all sums


@dataclass(frozen=True, slots=True)
class Strip:
    """Sorted queries [first, first + rows) and columns [first_column, first_column + columns) of the pair matrix;
    unwritten.
    """

    first: int
    rows: int
    first_column: int
    columns: int
    values: Tensor  # [rows, stride] T
    near_tiles: Tensor | None  # uint8 [tiles]: which have close pairs; None where nobody asks
    near_bits: Tensor | None  # int32 words of a bit for each pair

    @property
    def sizes(self) -> list[int]:
        """As kernels take it."""
        return [self.first, self.rows, self.first_column, self.columns, self.values.shape[1]]


def strips(packed: Packed, *, near: bool, triangle: bool = False) -> Iterator[Strip]:
    """Strips that cover the pair matrix; they share their memory, so one is done with before the next.

    Args:
        near: with room for the record of close pairs.
        triangle: for a symmetric matrix in self form, only columns from a strip's first row on.
    """
    (tile,) = kernels.ask("tile", packed.dtype)
    cuts = list(_cuts(packed.query.size, packed.gallery.size, tile, triangle))
    tiles = [math.ceil(rows / tile) * math.ceil(columns / tile) for _, rows, columns, _ in cuts]
    words = [rows * math.ceil(columns / tile) * tile // 32 for _, rows, columns, _ in cuts]
    values = packed.gap.new_empty(max((rows * stride for _, rows, _, stride in cuts), default=0))
    flags = values.new_empty(max(tiles, default=0), dtype=torch.uint8) if near else None
    bits = values.new_empty(max(words, default=0), dtype=torch.int32) if near else None
    for (first, rows, columns, stride), tile_count, word_count in zip(cuts, tiles, words, strict=True):
        yield Strip(
            first,
            rows,
            packed.gallery.size - columns,
            columns,
            values[: rows * stride].view(rows, stride),
            None if flags is None else flags[:tile_count],
            None if bits is None else bits[:word_count],
        )


def triangle_pays(packed: Packed) -> bool:
    """Is half the matrix, and adding its mirror image, faster than all of it? On paper: from its size alone."""
    return packed.gallery.size * _FEWEST <= _ELEMENTS


def _cuts(queries: int, gallery: int, tile: int, triangle: bool) -> Iterator[tuple[int, int, int, int]]:
    """First row, rows, columns (the last of the matrix) and stride of each strip."""
    first = 0
    while first < queries:
        columns = gallery - first if triangle else gallery
        stride = -(-columns // _LANE) * _LANE
        rows = min(max(_ELEMENTS // max(stride, 1) // tile, 1) * tile, queries - first)
        yield first, rows, columns, stride
        first += rows

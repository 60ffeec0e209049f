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


@dataclass(frozen=True, slots=True)
class Strip:
    """Sorted queries [first, first + rows) and all columns of the pair matrix; unwritten."""

    first: int
    rows: int
    columns: int
    values: Tensor  # [rows, stride] T
    near_tiles: Tensor | None  # uint8 [tiles]: which have close pairs; None where nobody asks
    near_bits: Tensor | None  # int32 words of a bit for each pair

    @property
    def sizes(self) -> list[int]:
        """As kernels take it."""
        return [self.first, self.rows, 0, self.columns, self.values.shape[1]]


def strips(packed: Packed, *, near: bool) -> Iterator[Strip]:
    """Strips that cover the pair matrix; they share their memory, so one is done with before the next.

    Args:
        near: with room for the record of close pairs.
    """
    (tile,) = kernels.ask("tile", packed.dtype)
    queries, columns = packed.query.size, packed.gallery.size
    stride = -(-columns // _LANE) * _LANE
    most = min(max(_ELEMENTS // stride // tile, 1) * tile, queries)
    column_tiles = math.ceil(columns / tile)
    values = packed.gap.new_empty(most * stride)
    tiles = values.new_empty(math.ceil(most / tile) * column_tiles, dtype=torch.uint8) if near else None
    words = column_tiles * tile // 32
    bits = values.new_empty(most * words, dtype=torch.int32) if near else None
    for first in range(0, queries, most):
        rows = min(most, queries - first)
        yield Strip(
            first,
            rows,
            columns,
            values[: rows * stride].view(rows, stride),
            None if tiles is None else tiles[: math.ceil(rows / tile) * column_tiles],
            None if bits is None else bits[: rows * words],
        )

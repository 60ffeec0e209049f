"""A strip of coefficients into gradients: Σ c (x_i − y_j) of its anchors, or of its columns."""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import NEAR_FEATURES, STRIP_TILE, Tiles, local_precision, near_tiles, precision, splits, tiles
from .launch import launch
from .operand import Operand, Packed
from .pull import finish_pull, pull_far, pull_local, pull_near
from .strip import Strip
from .tile import any_set

_TILE = tl.constexpr(STRIP_TILE)


@triton.jit(
    do_not_specialize=[
        "own_first",
        "owners",
        "other_first",
        "others",
        "parts",
        "tile_columns",
        "live_row",
        "live_column",
    ]
)
def strip_pull_kernel(
    x,  # the side that owns the sums
    y,
    Coefficient,  # fp32 [anchors of the strip, stride]
    Close,  # uint8, alike: as `strip_kernel` has it
    Near,  # uint8 [tile rows, tile_columns] of the strip; None: close pairs have no coefficients
    Live,  # uint8, of the whole matrix: which tiles have coefficients; None: all
    Sums,  # fp32 [parts, owners, width]
    stride,
    tile_columns,
    own_first,  # where the owners start in x, and how many there are
    owners,
    other_first,
    others,
    width,
    parts,  # how many programs share the others
    live_row,
    live_column,
    ANCHORS_OWN: tl.constexpr,  # owners are the strip's anchors, else its columns
    NEAR: tl.constexpr,  # add close pairs to what the visit of all others left
    METRIC: tl.constexpr,
    PRECISION: tl.constexpr,
    LOCAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    DS: tl.constexpr,
):
    """Gradient of the owners at a slice of features, from one share of the others: Σ c (x_i − y_j)."""
    own = tl.program_id(0) * BM + tl.arange(0, BM)
    f = tl.program_id(1) * DS + tl.arange(0, DS)
    share = tl.program_id(2)
    i = own_first + own
    sums = tl.zeros([BM, DS], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    own_tile = tl.program_id(0) * BM // _TILE
    for start in range(share * BN, others, parts * BN):
        other = start + tl.arange(0, BN)
        other_tile = start // _TILE
        alive = 1
        if Live is not None:
            at = tl.cast(own_first // _TILE + own_tile, tl.int64) * live_row
            alive = tl.load(Live + at + tl.cast(other_tile, tl.int64) * live_column).to(tl.int32) & 1
        if alive != 0:
            inside = (own < owners)[:, None] & (other < others)[None, :]
            if ANCHORS_OWN:
                place = own.to(tl.int64)[:, None] * stride + other[None, :]
            else:
                place = other.to(tl.int64)[None, :] * stride + own[:, None]
            c = tl.load(Coefficient + place, mask=inside, other=0.0)
            j = other_first + other
            if Near is not None:
                if ANCHORS_OWN:
                    near = tl.load(Near + own_tile * tile_columns + other_tile)
                else:
                    near = tl.load(Near + other_tile * tile_columns + own_tile)
                if near != 0:
                    close = tl.load(Close + place, mask=inside, other=0)
                    if NEAR:
                        by_pair = tl.where(close == 2, c, 0.0)
                        by_product = tl.where(close == 1, c, 0.0)
                        last, end = own_first + owners, other_first + others
                        sums = pull_near(sums, by_pair, x, y, i, j, f, last, width)
                        if any_set(by_product != 0.0) > 0:
                            sums += pull_local(by_product, x, y, i, j, f, last, end, width, LOCAL)
                    c = tl.where(close != 0, 0.0, c)
            if not NEAR:
                sums, mass = pull_far(sums, mass, c, y, j, f, other_first + others, width, PRECISION)
    place = (share * owners + own).to(tl.int64)[:, None] * width + f[None, :]
    there = (own < owners)[:, None] & (f < width)[None, :]
    if NEAR:
        sums += tl.load(Sums + place, mask=there, other=0.0)
    else:
        sums = finish_pull(sums, mass, x, i, f, own_first + owners, width, METRIC)
    tl.store(Sums + place, sums, mask=there)


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A strip's factors of x_anchor − y_j in the gradient."""

    strip: Strip
    values: Tensor  # fp32 [rows, stride]
    close: Tensor  # uint8, alike: as `strip_kernel` has it
    near: Tensor  # uint8 [tile rows, tile columns]: tiles that have any


def add_strip(
    packed: Packed, coefficients: Coefficients, to_query: Tensor | None, to_gallery: Tensor | None
) -> None:
    """Adds a strip's share of the gradient to sums, fp32 [R, D] in sorted order; in self form both are one tensor."""
    query, gallery, strip = packed.query, packed.gallery, coefficients.strip
    if to_query is not None:
        to_query[strip.first : strip.first + strip.rows] += _pull(query, gallery, coefficients, True)
    if to_gallery is not None:
        to_gallery += _pull(gallery, query, coefficients, False)


def _pull(own: Operand, other: Operand, coefficients: Coefficients, anchors_own: bool) -> Tensor:
    strip = coefficients.strip
    anchors, columns = (strip.first, strip.rows), (0, other.size if anchors_own else own.size)
    (own_first, owners), (other_first, others) = (anchors, columns) if anchors_own else (columns, anchors)
    arguments = {
        "Close": coefficients.close,
        "Near": coefficients.near,
        "Live": None,
        "tile_columns": coefficients.near.shape[1],
        "own_first": own_first,
        "owners": owners,
        "other_first": other_first,
        "others": others,
        "live_row": 0,
        "live_column": 0,
    }
    constexprs = {"ANCHORS_OWN": anchors_own, "METRIC": "euclidean"}
    tile = tiles("strip_pull", own.source.dtype, own.width)
    return pull_strip(own, other, coefficients.values, arguments, constexprs, tile, (False, True))


def pull_strip(
    own: Operand,
    other: Operand,
    values: Tensor,
    arguments: dict[str, Any],
    constexprs: dict[str, Any],
    tile: Tiles,
    visits: tuple[bool, ...],
) -> Tensor:
    """The sums [owners, D] of a strip's coefficients `values`; `visits`: far pairs (False), then close ones (True)."""
    dtype, width = own.source.dtype, own.width
    owners = arguments["owners"]
    blocks, slices = triton.cdiv(owners, tile.rows), triton.cdiv(width, tile.features)
    parts = splits(blocks * slices, triton.cdiv(arguments["others"], tile.columns), 16)
    sums = torch.empty(parts, owners, width, dtype=torch.float32, device=values.device)
    for near in visits:
        features = min(tile.features, NEAR_FEATURES) if near else tile.features
        launch(
            strip_pull_kernel,
            (blocks, triton.cdiv(width, features), parts),
            {
                **arguments,
                "x": own.side,
                "y": other.side,
                "Coefficient": values,
                "Sums": sums,
                "stride": values.shape[1],
                "width": width,
                "parts": parts,
            },
            {
                **constexprs,
                "NEAR": near,
                "PRECISION": precision(dtype),
                "LOCAL": local_precision(),
                "BM": tile.rows,
                "BN": tile.columns,
                "DS": features,
            },
            **(near_tiles(dtype) if near else tile).options,
        )
    return sums.sum(0) if parts > 1 else sums[0]

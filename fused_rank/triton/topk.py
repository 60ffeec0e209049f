"""The k best gallery rows of every query, from strips of the pair matrix: on chip for small k, by keys beyond."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import blocks
from .keys import signed_first
from .launch import launch
from .operand import Packed
from .strip import Strip, fill_strip, strips

ON_CHIP = 32  # the largest k that a program keeps in registers


@triton.jit(do_not_specialize=["first", "rows", "columns", "k"])
def topk_kernel(
    Values,  # fp32 [rows, stride]: the strip; the least is the best
    Best,  # int64 [queries, k]: keys in ascending order
    stride,
    first,
    rows,
    columns,
    k,
    EXCLUDE: tl.constexpr,  # a query's own position
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    KEPT: tl.constexpr,  # a power of two, at least k
):
    """The k least keys of each row. A chunk's keys enter one by one, the least first, if they beat the worst kept."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    query = first + row
    slot = tl.arange(0, KEPT)[None, :]
    # Distinct keys above every real one; places beyond k are taken for good.
    greatest = tl.full((ROWS, KEPT), 0x7FFFFFFFFFFFFFFF, tl.int64)
    best = tl.where(slot < k, greatest - slot, -greatest + slot)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = there[:, None] & (column < columns)[None, :]
        if EXCLUDE:
            inside = inside & (column[None, :] != query[:, None])
        place = row.to(tl.int64)[:, None] * stride + column[None, :]
        value = tl.load(Values + place, mask=inside, other=float("inf"))
        key = tl.where(inside, signed_first(value, column[None, :]), 0x7FFFFFFFFFFFFFFF)
        worst = tl.max(best, 1)
        least = tl.min(key, 1)
        while tl.max((least < worst).to(tl.int32), 0) > 0:
            enters = (least < worst)[:, None]
            best = tl.where(enters & (best == worst[:, None]), least[:, None], best)
            key = tl.where(enters & (key == least[:, None]), 0x7FFFFFFFFFFFFFFF, key)
            worst = tl.max(best, 1)
            least = tl.min(key, 1)
    rank = tl.sum((best[:, None, :] < best[:, :, None]).to(tl.int32), 2) - (KEPT - k)
    tl.store(
        Best + query.to(tl.int64)[:, None] * k + rank,
        best,
        mask=there[:, None] & (slot < k) & (rank >= 0),
    )


@triton.jit(do_not_specialize=["first", "rows", "columns"])
def key_kernel(
    Values,
    Keys,  # int64 [rows, columns]
    stride,
    first,
    rows,
    columns,
    EXCLUDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Values and their columns as keys; a query's own position comes last."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    place = row.to(tl.int64)[:, None] * stride + column[None, :]
    value = tl.load(Values + place, mask=inside, other=0.0)
    key = signed_first(value, column[None, :])
    if EXCLUDE:
        key = tl.where((first + row)[:, None] == column[None, :], 0x7FFFFFFFFFFFFFFF, key)
    tl.store(Keys + row.to(tl.int64)[:, None] * columns + column[None, :], key, mask=inside)


def smallest(packed: Packed, k: int, *, dot: bool, exclude_self: bool) -> tuple[Tensor, Tensor]:
    """Squared distances (`dot`: minus inner products) fp32 [M, k], ascending, and their gallery rows, int64 [M, k]."""
    queries, columns = packed.query.size, packed.gallery.size
    device = packed.query.source.device
    best = torch.empty(queries, k, dtype=torch.int64, device=device)
    for strip in strips(queries, columns):
        values = torch.empty(strip.shape, dtype=torch.float32, device=device)
        fill_strip(packed, strip, values, dot=dot)
        if k <= ON_CHIP:
            _keep_on_chip(values, best, strip, columns, k, exclude_self)
        else:
            own = slice(strip.first, strip.first + strip.rows)
            best[own] = _keys(values, strip, columns, exclude_self).topk(k, largest=False).values
    ordered = (best >> 32).to(torch.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), best & 0x7FFFFFFF


def _keep_on_chip(
    values: Tensor, best: Tensor, strip: Strip, columns: int, k: int, exclude_self: bool
) -> None:
    block = blocks("topk")
    launch(
        topk_kernel,
        (triton.cdiv(strip.rows, block.shape["ROWS"]),),
        {
            "Values": values,
            "Best": best,
            "stride": strip.stride,
            "first": strip.first,
            "rows": strip.rows,
            "columns": columns,
            "k": k,
        },
        {"EXCLUDE": exclude_self, "KEPT": max(2, triton.next_power_of_2(k)), **block.shape},
        **block.options,
    )


def _keys(values: Tensor, strip: Strip, columns: int, exclude_self: bool) -> Tensor:
    block = blocks("topk")
    keys = torch.empty(strip.rows, columns, dtype=torch.int64, device=values.device)
    launch(
        key_kernel,
        (
            triton.cdiv(strip.rows, block.shape["ROWS"]),
            triton.cdiv(columns, block.shape["COLUMNS"]),
        ),
        {
            "Values": values,
            "Keys": keys,
            "stride": strip.stride,
            "first": strip.first,
            "rows": strip.rows,
            "columns": columns,
        },
        {"EXCLUDE": exclude_self, **block.shape},
        **block.options,
    )
    return keys

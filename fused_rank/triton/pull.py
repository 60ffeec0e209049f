"""Coefficients into a gradient on chip: Σ_j c_ij (x_i − y_j), from a tile of c.

A sweep keeps −Σ c_ij y_j of D's slice, [BM, DS], and the mass Σ c_ij, [BM]; close pairs stay out of both and are
added by direct difference. 16-bit operands lose no digits of c: it takes two products, with c in two parts, of bf16
or, as tf32 holds fp16 exactly, of tf32.
"""

import triton
import triton.language as tl

from .tile import difference, first_set, is_half, load_rows, split_tf32


@triton.jit
def pull_far(sums, mass, c, y, j, f, columns, width, PRECISION: tl.constexpr):
    """Add a tile's coefficients c [BM, BN], 0 for close pairs, at features f [DS]; returns sums and mass."""
    return sums - _product(c, y, j, f, columns, width, PRECISION), mass + tl.sum(c, 1)


@triton.jit
def pull_near(sums, c, x, y, i, j, f, rows, width):
    """Add coefficients c [BM, BN] of close pairs, column by column of those that have any."""
    waiting = tl.max((c != 0.0).to(tl.int32), 0)
    place = tl.arange(0, j.shape[0])
    at = first_set(waiting, -1)
    while at < j.shape[0]:
        weight = tl.sum(tl.where((place == at)[None, :], c, 0.0), 1)
        sums += weight[:, None] * difference(x, y, i, tl.min(j, 0) + at, f, rows, width)
        at = first_set(waiting, at)
    return sums


@triton.jit
def pull_local(c, x, y, i, j, f, rows, columns, width, LOCAL: tl.constexpr):
    """Σ c (x_i − y_j) of pairs within clusters, whose coefficients c [BM, BN] alone are not 0, by a product of local
    rows.
    """
    own = load_rows(x.local, i, f, rows, width)
    other = load_rows(y.local, j, f, columns, width)
    return tl.sum(c, 1)[:, None] * own - tl.dot(c, other, input_precision=LOCAL)


@triton.jit
def _product(c, y, j, f, columns, width, PRECISION: tl.constexpr):
    """Σ_j c_ij y_j, [BM, DS]."""
    other = load_rows(y.rows, j, f, columns, width)
    if is_half(y):
        c *= tl.load(y.inverse + j, mask=j < columns, other=0.0)[None, :]
    if y.rows.dtype.element_ty == tl.bfloat16:
        high = c.to(tl.bfloat16)
        low = (c - high.to(tl.float32)).to(tl.bfloat16)
        sum_high = tl.dot(high, other, input_precision="ieee")
        return tl.dot(low, other, sum_high, input_precision="ieee")
    elif y.rows.dtype.element_ty == tl.float16 and PRECISION == "tf32":
        high, low = split_tf32(c)
        wide = other.to(tl.float32)
        sum_low = tl.dot(low, wide, input_precision="tf32")
        return tl.dot(high, wide, sum_low, input_precision="tf32")
    elif y.rows.dtype.element_ty == tl.float16:
        return tl.dot(c, other.to(tl.float32), input_precision="ieee")
    else:
        return tl.dot(c, other, input_precision=PRECISION)


@triton.jit
def finish_pull(sums, mass, x, i, f, rows, width, METRIC: tl.constexpr):
    """The gradient of the rows at features f: mass · x_i − Σ c_ij y_j; Σ c_ij y_j of inner products."""
    if METRIC == "dot":
        return -sums
    own = load_rows(x.rows, i, f, rows, width).to(tl.float32)
    if is_half(x):
        own *= tl.load(x.inverse + i, mask=i < rows, other=0.0)[:, None]
    return mass[:, None] * own + sums

"""Distances packed with the row they lead to, so that one integer comparison ranks both.

The order-preserving bits of a value stand in the upper half of an int64, the original row in the lower half: the least
key is the nearest row (or the farthest), the lowest row among equals. Integer minima are the same in any order.
"""

import triton
import triton.language as tl

NOBODY_KEY = (1 << 63) - 1  # greater than any key
NOBODY = tl.constexpr(NOBODY_KEY)


@triton.jit
def nearest_first(value, number):
    """Key that ascends with a value of at least zero (never minus zero)."""
    return (value.to(tl.int32, bitcast=True).to(tl.int64) << 32) | number.to(tl.int64)


@triton.jit
def farthest_first(value, number):
    """Key that descends with a value of at least zero; row numbers still ascend."""
    return ((0x7FFFFFFF ^ value.to(tl.int32, bitcast=True)).to(tl.int64) << 32) | number.to(tl.int64)


@triton.jit
def value_of_near(key):
    """The value of a key made by `nearest_first`."""
    return (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def value_of_far(key):
    """The value of a key made by `farthest_first`."""
    return (0x7FFFFFFF ^ (key >> 32).to(tl.int32)).to(tl.float32, bitcast=True)


@triton.jit
def signed_first(value, number):
    """Key that ascends with a value of either sign."""
    bits = value.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | number.to(tl.int64)

"""What losses share whose rows are the log-sum-exp of their positives' logits and of their negatives'."""

import triton
import triton.language as tl

from .logits import LOWEST, merge_exponentials

# A row: peak and total of its positives' exponentials, of its negatives'. A scale: upstream times the derivatives by
# the two log-sum-exps, then those.


@triton.jit
def start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero + LOWEST, zero, zero + LOWEST, zero


@triton.jit
def merge(row, other, p):
    pos_peak, pos_total = merge_exponentials(row[0], row[1], other[0], other[1])
    neg_peak, neg_total = merge_exponentials(row[2], row[3], other[2], other[3])
    return pos_peak, pos_total, neg_peak, neg_total


@triton.jit
def scale(state, grads, p):
    """Of state (log-sum-exp of positives, of negatives, derivative by both)."""
    return grads[0] * state[2], state[0], state[1]

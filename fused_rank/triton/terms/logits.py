"""What terms over logits are made of: sums of exponentials, relative to the largest so far."""

import triton
import triton.language as tl

# Below every logit, and so far that its exponential relative to any is 0; its double is finite as well.
LOWEST = tl.constexpr(-1e30)
# The log-sum-exp of no logits, as `fused_rank.reference.softmax.NOTHING`.
NOTHING = tl.constexpr(-1e30)


@triton.jit
def fold_exponentials(peak, total, logits, mask):
    """Masked logits [BM, BN] into (peak, total) [BM], whose log-sum-exp is peak + log total; empty: (LOWEST, 0)."""
    logits = tl.where(mask, logits, 2.0 * LOWEST)
    higher = tl.maximum(peak, tl.max(logits, 1))
    return higher, total * tl.exp(peak - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)


@triton.jit
def merge_exponentials(peak, total, other_peak, other_total):
    """Two such pairs into one."""
    higher = tl.maximum(peak, other_peak)
    return higher, total * tl.exp(peak - higher) + other_total * tl.exp(other_peak - higher)


@triton.jit
def log_sum(peak, total):
    """The log-sum-exp of a pair; NOTHING of an empty one."""
    return tl.where(total > 0.0, peak + tl.log(tl.where(total > 0.0, total, 1.0)), NOTHING)


@triton.jit
def sigmoid(z):
    e = tl.exp(-tl.abs(z))
    return tl.where(z < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def always(row, d, p):
    """Every pair contributes."""
    return d == d

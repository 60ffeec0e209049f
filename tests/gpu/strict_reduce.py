"""Reductions and scans of the strict interpreter, by whole slices instead of element by element.

A combine function is applied as a tree that pairs far elements, so it must be associative and commutative, as on
a GPU. "Fast" ties of argmin and argmax, which a GPU may break either way, are broken to the right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.language import standard

from .strict_numbers import is_bf16

LEFT = (standard._argmin_combine_tie_break_left, standard._argmax_combine_tie_break_left)
SMALLEST = (standard._argmin_combine_tie_break_left, standard._argmin_combine_tie_break_fast)
ARG = (*LEFT, standard._argmin_combine_tie_break_fast, standard._argmax_combine_tie_break_fast)


def combine(
    self: Any, left: list[np.ndarray], right: list[np.ndarray], dtypes: list[Any]
) -> list[np.ndarray]:
    sides = [
        self.to_tensor(data, dtype)
        for side in (left, right)
        for data, dtype in zip(side, dtypes, strict=True)
    ]
    result = self.combine_fn(*sides)
    result = result if isinstance(result, (tuple, tl.tuple)) else (result,)
    return [r.handle.data.reshape(a.shape).astype(a.dtype) for r, a in zip(result, left, strict=True)]


def generic_reduce(self: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """[..., n, ...] to [..., ...] along `self.axis` (None: all), in log₂ n calls of the combine function."""
    rank = len(inputs[0].shape)
    axis = 0 if self.axis is None else self.axis
    arrays = [i.handle.data.reshape(-1) if self.axis is None else i.handle.data for i in inputs]
    dtypes = [i.dtype for i in inputs]
    while (n := arrays[0].shape[axis]) > 1:
        left, right = zip(*(np.split(a, [n // 2], axis) for a in arrays), strict=True)
        arrays = combine(self, list(left), list(right), dtypes)
    if self.keep_dims:
        arrays = [a.reshape((1,) * rank) if self.axis is None else a for a in arrays]
    else:
        arrays = [a.squeeze(axis) for a in arrays]
    return [self.to_tensor(a if a.shape else a.item(), d) for a, d in zip(arrays, dtypes, strict=True)]


def extreme_with_index(self: Any, values: Any, indices: Any) -> tuple[Any, Any]:
    v, index = np.broadcast_arrays(values.handle.data, indices.handle.data)
    reduce = np.fmin.reduce if self.combine_fn in SMALLEST else np.fmax.reduce
    best = reduce(v, axis=self.axis, keepdims=True)
    ties = (v == best) | np.isnan(best)
    if self.combine_fn in LEFT:
        place = np.where(ties, index, np.iinfo(index.dtype).max).min(axis=self.axis, keepdims=self.keep_dims)
    else:
        place = np.where(ties, index, np.iinfo(index.dtype).min).max(axis=self.axis, keepdims=self.keep_dims)
    best = best if self.keep_dims else (best.squeeze(self.axis) if self.axis is not None else best.item())
    return self.to_tensor(best, values.dtype), self.to_tensor(place, indices.dtype)


def reduce(self: Any, inputs: tuple[Any, ...]) -> Any:
    """ReduceOps.apply_impl."""
    if any(is_bf16(i.handle) for i in inputs):
        return generic_reduce(self, inputs)
    data = inputs[0].handle.data
    if self.combine_fn in ARG:
        return extreme_with_index(self, *inputs)
    for function, ufunc in ((standard._elementwise_max, np.fmax), (standard._elementwise_min, np.fmin)):
        if self.combine_fn is function:
            return self.to_tensor(
                ufunc.reduce(data, axis=self.axis, keepdims=self.keep_dims), inputs[0].dtype
            )
    if self.combine_fn is standard._sum_combine:
        return self.sum(inputs[0])
    return generic_reduce(self, inputs)


def generic_scan(self: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """ScanOps.generic_scan: log₂ n steps, each combining every element with the one 1, 2, 4, ... before it."""
    arrays = [i.handle.data for i in inputs]
    dtypes = [i.dtype for i in inputs]
    n = arrays[0].shape[self.axis]
    place = np.arange(n).reshape(
        [-1 if d == self.axis % arrays[0].ndim else 1 for d in range(arrays[0].ndim)]
    )
    step = 1
    while step < n:
        before = [np.roll(a, step, self.axis) for a in arrays]
        combined = combine(self, before, arrays, dtypes)
        arrays = [np.where(place < step, a, c) for a, c in zip(arrays, combined, strict=True)]
        step *= 2
    return [self.to_tensor(a, d) for a, d in zip(arrays, dtypes, strict=True)]

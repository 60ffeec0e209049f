"""Differentiable distances: of listed pairs, and the whole matrix."""

from typing import Any

import torch
from torch import Tensor

from .dispatch import BACKENDS, select
from .double_backward import refuse_double_backward
from .options import Metric


def listed_distance(
    operation: str,
    x: Tensor,
    gallery: Tensor | None,
    i: Tensor | None,
    j: Tensor | None,
    metric: Metric,
    normalize: bool,
) -> Tensor:
    """Distance [L] of x[i] to (gallery or x)[j], by direct difference; row by row without indices."""
    backend = select(operation, x)
    needs_grad = torch.is_grad_enabled() and (
        x.requires_grad or (gallery is not None and gallery.requires_grad)
    )
    if needs_grad:
        distance: Tensor = _ListedDistance.apply(  # type: ignore[no-untyped-call]
            x, gallery, i, j, metric, normalize, backend.name
        )
        return distance
    result: Tensor = backend.indexed_distance(x, gallery, i, j, metric, normalize)
    return result


class _ListedDistance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gallery: Tensor | None,
        i: Tensor | None,
        j: Tensor | None,
        metric: Metric,
        normalize: bool,
        backend: str,
    ) -> Tensor:
        ctx.save_for_backward(x, gallery, i, j)
        ctx.metric, ctx.normalize, ctx.backend = metric, normalize, backend
        result: Tensor = BACKENDS[backend].indexed_distance(x, gallery, i, j, metric, normalize)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gallery, i, j = ctx.saved_tensors
        need_x, need_gallery = ctx.needs_input_grad[:2]
        with torch.no_grad():
            grad_x, grad_gallery = BACKENDS[ctx.backend].indexed_distance_backward(
                grads[0].contiguous(), x, gallery, i, j, ctx.metric, ctx.normalize, need_x, need_gallery
            )
        wanted = (grad_x if need_x else None, grad_gallery if need_gallery else None)
        return (*refuse_double_backward(wanted, grads[0], x, gallery), None, None, None, None, None)


class _PairwiseDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, metric: Metric, normalize: bool) -> Tensor:
        result: Tensor = torch.ops.fused_rank_eager.pairwise_distance.default(x, y, metric, normalize)
        ctx.save_for_backward(x, y, result)
        ctx.metric, ctx.normalize = metric, normalize
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, distance = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad[:2]
        with torch.no_grad():
            grad_x, grad_y = torch.ops.fused_rank_eager.pairwise_distance_backward.default(
                grads[0], distance, x, y, ctx.metric, ctx.normalize, need_x, need_y
            )
        wanted = (grad_x if need_x else None, grad_y if need_y else None)
        return (*refuse_double_backward(wanted, grads[0], x, y), None, None)


def pairwise_matrix(x: Tensor, y: Tensor | None, metric: Metric, normalize: bool) -> Tensor:
    """The whole matrix; made by PyTorch products under every backend."""
    matrix: Tensor = _PairwiseDistance.apply(x, y, metric, normalize)  # type: ignore[no-untyped-call]
    return matrix

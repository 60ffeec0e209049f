"""Mined triplet losses as one autograd.Function, and explicit triplets as distances of listed pairs."""

from typing import Any

import torch
from torch import Tensor

from ..reference.triplet import triplet_losses
from .dispatch import BACKENDS, select
from .distance import listed_distance
from .double_backward import refuse_double_backward
from .options import Metric, Mining
from .reduction import Rows

_OPERATION = "triplet_margin_loss"


def triplet_rows(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    mining: Mining,
    margin: float,
    soft_margin: bool,
    metric: Metric,
    normalize: bool,
    symmetric: bool = False,
) -> Rows:
    """Rows [1, M] of the triplets that `mining` takes; only the sums are differentiable.

    Symmetric, for all triplets and the band of two sets: the gallery's rows are anchors too, [1, M + N].
    """
    backend = select(_OPERATION, x)
    needs_grad = torch.is_grad_enabled() and (
        x.requires_grad or (gallery is not None and gallery.requires_grad)
    )
    if needs_grad:
        rows: tuple[Tensor, Tensor, Tensor] = _TripletRows.apply(  # type: ignore[no-untyped-call]
            x,
            gallery,
            labels,
            gallery_labels,
            (mining, margin, soft_margin, metric, normalize),
            symmetric,
            backend.name,
        )
        return Rows(*rows)
    result = backend.triplet_forward(
        x, labels, gallery, gallery_labels, mining, margin, soft_margin, metric, normalize, symmetric
    )[0]
    return Rows(*result.unsqueeze(1).unbind(0))


class _TripletRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gallery: Tensor | None,
        labels: Tensor | None,
        gallery_labels: Tensor | None,
        options: tuple[Mining, float, bool, Metric, bool],
        symmetric: bool,
        backend: str,
    ) -> tuple[Tensor, ...]:
        rows, state, live = BACKENDS[backend].triplet_forward(
            x, labels, gallery, gallery_labels, *options, symmetric
        )
        ctx.save_for_backward(x, labels, gallery, gallery_labels, state, live, rows)
        ctx.options, ctx.symmetric, ctx.backend = options, symmetric, backend
        sums, counts, active = rows.unsqueeze(1).unbind(0)
        ctx.mark_non_differentiable(counts, active)
        return sums, counts, active

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, labels, gallery, gallery_labels, *kept = ctx.saved_tensors
        need_x, need_gallery = ctx.needs_input_grad[:2]
        with torch.no_grad():
            grad_x, grad_gallery = BACKENDS[ctx.backend].triplet_backward(
                grads[0].contiguous(),
                x,
                labels,
                gallery,
                gallery_labels,
                *ctx.options,
                *kept,
                need_x,
                need_gallery,
                ctx.symmetric,
            )
        wanted = (grad_x if need_x else None, grad_gallery if need_gallery else None)
        return (*refuse_double_backward(wanted, grads[0], x, gallery), None, None, None, None, None)


def explicit_triplet_rows(
    x: Tensor,
    gallery: Tensor | None,
    triplets: tuple[Tensor, Tensor, Tensor],
    margin: float,
    soft_margin: bool,
    metric: Metric,
    normalize: bool,
) -> Rows:
    """Rows [1, L] of listed triplets: each is one term."""
    anchor, positive, negative = triplets
    to_positive = listed_distance(_OPERATION, x, gallery, anchor, positive, metric, normalize)
    to_negative = listed_distance(_OPERATION, x, gallery, anchor, negative, metric, normalize)
    losses = triplet_losses(to_positive - to_negative + margin, soft_margin).unsqueeze(0)
    every = torch.ones_like(losses)
    return Rows(losses, every, every if soft_margin else (losses > 0).to(losses.dtype))

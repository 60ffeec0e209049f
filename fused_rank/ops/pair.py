"""Losses that are sums over pairs: one autograd.Function for all of them; a loss is a term with parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .dispatch import BACKENDS, select
from .double_backward import refuse_double_backward
from .options import Metric
from .reduction import Rows
from .schemas import PAIR_CHANNELS


class PairTerm(NamedTuple):
    """The mathematics of one loss on one pair, as the operators take it."""

    operation: str  # public name, for the choice of backend
    name: str
    params: tuple[float, ...]
    query_only: bool = False  # the gallery is a constant
    fused: str = "none"  # "query" or "both": the gradient may be made in the forward pass


def pair_rows(
    term: PairTerm,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: Metric,
    normalize: bool,
) -> Rows:
    """Rows of a pair loss; only the sums are differentiable."""
    backend = select(term.operation, x)
    needs_grad = torch.is_grad_enabled() and (
        x.requires_grad or (gallery is not None and gallery.requires_grad)
    )
    if needs_grad:
        rows: tuple[Tensor, Tensor, Tensor] = _PairRows.apply(  # type: ignore[no-untyped-call]
            x, gallery, labels, gallery_labels, term, metric, normalize, backend.name
        )
        return Rows(*rows)
    result = backend.pair_forward(
        x, labels, gallery, gallery_labels, term.name, term.params, metric, normalize, "none"
    )[0]
    return Rows(*result.view(3, PAIR_CHANNELS[term.name], x.shape[0]).unbind(0))


class _PairRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gallery: Tensor | None,
        labels: Tensor | None,
        gallery_labels: Tensor | None,
        term: PairTerm,
        metric: Metric,
        normalize: bool,
        backend: str,
    ) -> tuple[Tensor, ...]:
        rows, state, live, grad_x, grad_gallery = BACKENDS[backend].pair_forward(
            x, labels, gallery, gallery_labels, term.name, term.params, metric, normalize, term.fused
        )
        ctx.save_for_backward(x, labels, gallery, gallery_labels, state, live, grad_x, grad_gallery)
        ctx.term, ctx.metric, ctx.normalize, ctx.backend = term, metric, normalize, backend
        sums, counts, active = rows.view(3, PAIR_CHANNELS[term.name], x.shape[0]).unbind(0)
        ctx.mark_non_differentiable(counts, active)
        return sums, counts, active

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, labels, gallery, gallery_labels, *kept = ctx.saved_tensors
        need_x, need_gallery = ctx.needs_input_grad[:2]
        with torch.no_grad():
            grad_x, grad_gallery = BACKENDS[ctx.backend].pair_backward(
                grads[0].contiguous(),
                x,
                labels,
                gallery,
                gallery_labels,
                ctx.term.name,
                ctx.term.params,
                ctx.metric,
                ctx.normalize,
                ctx.term.query_only,
                *kept,
                need_x,
                need_gallery,
            )
        wanted = (grad_x if need_x else None, grad_gallery if need_gallery else None)
        return (*refuse_double_backward(wanted, grads[0], x, gallery), None, None, None, None, None, None)

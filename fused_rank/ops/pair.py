"""Losses that are sums over pairs: one autograd.Function for all of them; a loss is a term with parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .dispatch import BACKENDS, select
from .double_backward import refuse_double_backward
from .options import PairMetric
from .reduction import Rows
from .schemas import PAIR_CHANNELS

# whose gradient is made in the forward pass, by who needs one: queries, gallery
_SIDES = {(True, True): "both", (True, False): "query", (False, True): "gallery", (False, False): "none"}


class PairTerm(NamedTuple):
    """The mathematics of one loss on one pair, as the operators take it."""

    operation: str  # public name, for the choice of backend
    name: str
    params: tuple[float, ...]
    query_only: bool = False  # the gallery is a constant
    fused: str = "none"  # "query" or "both": the gradient may be made in the forward pass
    uniform: bool = (
        False  # all rows will have one upstream gradient; of two sets forward may make both sides' then
    )


class _Options(NamedTuple):
    term: PairTerm
    metric: PairMetric
    normalize: bool
    symmetric: bool
    backend: str


def pair_rows(
    term: PairTerm,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: PairMetric,
    normalize: bool,
    inputs: Tensor | None = None,
    symmetric: bool = False,
) -> Rows:
    """Rows of a pair loss, each [C, R]; only the sums are differentiable, in x, gallery and inputs.

    Args:
        term: the loss.
        x: queries [M, D].
        labels: int64 [M]; None means plain pairing.
        gallery: [N, D], or None for the self form.
        gallery_labels: int64 [N].
        metric: what the term sees of a pair; ``"dot"`` is the inner product.
        normalize: divide rows by their norms first.
        inputs: the term's numbers for each of the R rows, [k, R] in the accumulation dtype.
        symmetric: the gallery's rows are queries too: R = M + N, the gallery's after the queries'. Else R = M.
    """
    backend = select(term.operation, x)
    if inputs is not None:
        inputs = inputs.contiguous()
    sources = (x, gallery, inputs)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in sources):
        options = _Options(term, metric, normalize, symmetric, backend.name)
        rows: tuple[Tensor, Tensor, Tensor] = _PairRows.apply(*sources, labels, gallery_labels, options)  # type: ignore[no-untyped-call]
        return Rows(*rows)
    result = backend.pair_forward(
        x,
        labels,
        gallery,
        gallery_labels,
        inputs,
        term.name,
        term.params,
        metric,
        normalize,
        "none",
        symmetric,
    )[0]
    return Rows(*_channels(result, term))


def _channels(rows: Tensor, term: PairTerm) -> tuple[Tensor, ...]:
    """Sums, counts and active, each [C, R]."""
    return rows.view(3, PAIR_CHANNELS[term.name], rows.shape[1]).unbind(0)


class _PairRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gallery: Tensor | None,
        inputs: Tensor | None,
        labels: Tensor | None,
        gallery_labels: Tensor | None,
        options: _Options,
    ) -> tuple[Tensor, ...]:
        term, metric, normalize, symmetric, backend = options
        fused = term.fused
        if term.uniform and backend == "cpp" and gallery is not None and not symmetric:
            fused = _SIDES[ctx.needs_input_grad[:2]]
        rows, *kept = BACKENDS[backend].pair_forward(
            x,
            labels,
            gallery,
            gallery_labels,
            inputs,
            term.name,
            term.params,
            metric,
            normalize,
            fused,
            symmetric,
        )
        ctx.save_for_backward(x, labels, gallery, gallery_labels, inputs, *kept)
        ctx.options = options
        sums, counts, active = _channels(rows, term)
        ctx.mark_non_differentiable(counts, active)
        return sums, counts, active

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, labels, gallery, gallery_labels, inputs, *kept = ctx.saved_tensors
        term, metric, normalize, symmetric, backend = ctx.options
        needed = ctx.needs_input_grad[:3]
        with torch.no_grad():
            found = BACKENDS[backend].pair_backward(
                grads[0].contiguous(),
                x,
                labels,
                gallery,
                gallery_labels,
                inputs,
                term.name,
                term.params,
                metric,
                normalize,
                term.query_only,
                symmetric,
                *kept,
                *needed,
            )
        wanted = tuple(grad if need else None for grad, need in zip(found, needed, strict=True))
        return (*refuse_double_backward(wanted, grads[0], x, gallery, inputs), None, None, None)

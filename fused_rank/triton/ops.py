"""The operators of `ops/schemas.py`, put together from the sweeps."""

from torch import Tensor

from ..gpu.order import LabelOrder, order_by_label
from ..ops.options import Metric
from ..ops.schemas import PAIR_CHANNELS, PAIR_STATE_ROWS
from . import terms
from .gradient import gallery_gradient, make_scales, query_gradient
from .listed_ops import indexed_distance, indexed_distance_backward
from .one_pass import statistics_and_gradient
from .operand import Packed, pack
from .statistics import statistics
from .triplet_ops import mine_hard, mine_semihard, topk, triplet_backward, triplet_forward

__all__ = [
    "indexed_distance",
    "indexed_distance_backward",
    "mine_hard",
    "mine_semihard",
    "pair_backward",
    "pair_forward",
    "topk",
    "triplet_backward",
    "triplet_forward",
]


def _prepare(
    x: Tensor, labels: Tensor | None, gallery: Tensor | None, gallery_labels: Tensor | None, unit_rows: bool
) -> tuple[Packed, LabelOrder]:
    """Both sides packed in label order."""
    others = x if gallery is None else gallery
    order = order_by_label(labels, gallery_labels, x.shape[0], others.shape[0], x.device)
    return pack(x, gallery, order, unit_rows=unit_rows), order


def pair_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: Metric,
    normalize: bool,
    fused: str,
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of a pair loss [3 · channels, M], and what backward needs: state, live map, unit gradient [M, D] (or
    empty).
    """
    _refuse_unserved(inputs, metric, symmetric)
    unit_rows = normalize or metric == "cosine"
    packed, order = _prepare(x, labels, gallery, gallery_labels, unit_rows)
    kernels, values = terms.of(term, params, metric, unit_rows)
    arguments = (packed, order, kernels, values, metric, PAIR_CHANNELS[term], PAIR_STATE_ROWS[term])
    if fused == "query":
        if not kernels.separable:
            raise ValueError(f"{term} cannot be fused with these parameters")
        found, unit = statistics_and_gradient(*arguments)
        return *found, unit, unit.new_empty(0)
    found = statistics(*arguments)
    nothing = found.results.new_empty(0)
    return *found, nothing, nothing.clone()


def pair_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: Metric,
    normalize: bool,
    query_only: bool,
    symmetric: bool,
    state: Tensor,
    live: Tensor,
    unit: Tensor,
    nothing: Tensor,
    need_x: bool,
    need_gallery: bool,
    need_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of the gallery and of the inputs, each empty where it is not needed."""
    _refuse_unserved(inputs, metric, symmetric)
    grad_x, grad_gallery, grad_inputs = x.new_empty(0), x.new_empty(0), grad_sums.new_empty(0)
    need_gallery = need_gallery and gallery is not None
    if not (need_x or need_gallery):
        return grad_x, grad_gallery, grad_inputs
    if unit.numel() > 0:
        return (grad_sums[0].unsqueeze(1) * unit).to(x.dtype), grad_gallery, grad_inputs
    unit_rows = normalize or metric == "cosine"
    packed, order = _prepare(x, labels, gallery, gallery_labels, unit_rows)
    kernels, values = terms.of(term, params, metric, unit_rows)
    kernels = terms.for_gradient(kernels)
    scales = make_scales(packed.query.side.index, state, grad_sums, kernels, values)
    if need_x:
        both = not query_only
        grad_x = query_gradient(packed, order, kernels, values, metric, scales, live, both_ends=both)
    if need_gallery:
        grad_gallery = gallery_gradient(packed, order, kernels, values, metric, scales, live)
    return grad_x, grad_gallery, grad_inputs


def _refuse_unserved(inputs: Tensor | None, metric: str, symmetric: bool) -> None:
    if inputs is not None or metric == "dot" or symmetric:
        raise NotImplementedError(
            "the Triton kernels have no per-query inputs, inner products or symmetric sweep"
        )

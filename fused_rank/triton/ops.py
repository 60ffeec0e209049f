"""The operators of `ops/schemas.py`, put together from the sweeps."""

import torch
from torch import Tensor

from ..gpu.order import order_by_label
from ..gpu.widths import on_chip
from ..ops.options import PairMetric
from ..ops.schemas import PAIR_CHANNELS, PAIR_STATE_ROWS
from . import terms
from .gradient import gradient, make_scales
from .listed_ops import indexed_distance, indexed_distance_backward
from .one_pass import statistics_and_gradient
from .operand import pack
from .pairs import Pairs, gallery_pairs, query_pairs
from .rank_ops import distance_histogram, find_partner, rank_positives, sample_negatives, triplet_counts
from .statistics import joined_live, statistics
from .triplet_ops import mine_hard, mine_semihard, topk, triplet_backward, triplet_forward

__all__ = [
    "distance_histogram",
    "find_partner",
    "indexed_distance",
    "indexed_distance_backward",
    "mine_hard",
    "mine_semihard",
    "pair_backward",
    "pair_forward",
    "rank_positives",
    "sample_negatives",
    "topk",
    "triplet_backward",
    "triplet_counts",
    "triplet_forward",
]


def pair_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: PairMetric,
    normalize: bool,
    fused: str,
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of a pair loss [3 · channels, R], and what backward needs: state, live map, unit gradient [M, D] (or
    empty).
    """
    problem = _Problem(x, labels, gallery, gallery_labels, metric, normalize, symmetric)
    kernels, values = terms.of(term, params, metric, problem.unit_rows)
    sizes = PAIR_CHANNELS[term], PAIR_STATE_ROWS[term]
    pairs = problem.queries(kernels, values)
    if fused == "query" and on_chip(x.dtype, x.shape[1]):
        if not kernels.separable:
            raise ValueError(f"{term} cannot be fused with these parameters")
        found, unit = statistics_and_gradient(pairs, *sizes)
        return *found, unit, unit.new_empty(0)
    own, others = problem.inputs(inputs)
    results, state, live = statistics(pairs, own, *sizes)
    if symmetric:
        more = statistics(problem.gallery(kernels, values), others, *sizes)
        results = torch.cat((results, more.results), 1)
        state = torch.cat((state, more.state), 1)
        live = joined_live(live, more.live, pairs.own.size, pairs.other.size)
    nothing = results.new_empty(0)
    return results, state, live, nothing, nothing.clone()


def pair_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: PairMetric,
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
    grad_x, grad_gallery, grad_inputs = x.new_empty(0), x.new_empty(0), grad_sums.new_empty(0)
    need_gallery = need_gallery and gallery is not None
    if unit.numel() > 0 and need_x:
        return (grad_sums[0].unsqueeze(1) * unit).to(x.dtype), grad_gallery, grad_inputs
    if not (need_x or need_gallery or need_inputs):
        return grad_x, grad_gallery, grad_inputs
    problem = _Problem(x, labels, gallery, gallery_labels, metric, normalize, symmetric)
    kernels, values = terms.of(term, params, metric, problem.unit_rows)
    kernels = terms.for_gradient(kernels)
    queries, m = problem.queries(kernels, values), x.shape[0]

    def scales_of(index: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        kept, upstream = state[:, rows].contiguous(), grad_sums[:, rows].contiguous()
        return make_scales(index, kept, upstream, kernels, values)

    scales, input_grads = scales_of(queries.own.side.index, slice(0, m))
    others = scales if queries.self_form and not query_only else None
    if symmetric:
        others, more = scales_of(queries.other.side.index, slice(m, None))
        input_grads = torch.cat((input_grads, more), 1)
    if need_x:
        grad_x = gradient(queries, scales, others, live)
    if need_gallery:
        grad_gallery = gradient(problem.gallery(kernels, values), others, scales, live, turned=True)
    return grad_x, grad_gallery, input_grads if need_inputs and inputs is not None else grad_inputs


class _Problem:
    """Both sides packed in label order."""

    def __init__(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        metric: PairMetric,
        normalize: bool,
        symmetric: bool,
    ) -> None:
        self.metric, self.symmetric = metric, symmetric
        self.unit_rows = normalize or metric == "cosine"
        columns = x.shape[0] if gallery is None else gallery.shape[0]
        self.order = order_by_label(labels, gallery_labels, x.shape[0], columns, x.device)
        self.packed = pack(
            x, gallery, self.order, unit_rows=self.unit_rows, centre=metric != "dot", both_ways=symmetric
        )

    def queries(self, term: terms.Term, params: tuple[float, ...]) -> Pairs:
        return query_pairs(self.packed, self.order, term, params, self.metric)

    def gallery(self, term: terms.Term, params: tuple[float, ...]) -> Pairs:
        return gallery_pairs(self.packed, self.order, term, params, self.metric)

    def inputs(self, given: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Inputs [k, R] of the queries and of the gallery, each in sorted order."""
        if given is None:
            return None, None
        m = self.packed.query.size
        own = given[:, :m][:, self.order.query]
        return own, given[:, m:][:, self.order.gallery] if self.symmetric else None

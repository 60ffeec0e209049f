"""The operators of `ops/schemas.py`, put together from the sweeps."""

from torch import Tensor

from ..ops.fakes import live_tiles
from ..ops.options import PairMetric
from ..ops.schemas import PAIR_CHANNELS, PAIR_INPUTS, PAIR_STATE_ROWS
from . import kernels
from .gradient import gradients
from .listed_ops import indexed_distance, indexed_distance_backward
from .pair import prepare
from .rank_ops import distance_histogram, find_partner, rank_positives, sample_negatives, triplet_counts
from .topk import topk
from .triplet_ops import mine_hard, mine_semihard, triplet_backward, triplet_forward

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
    """Rows of a pair loss [3 · channels, R], and what backward needs: state and live map. No gradient is made here,
    whatever `fused` allows.
    """
    problem = prepare(x, labels, gallery, gallery_labels, term, params, metric, normalize, symmetric)
    arrays, sizes = problem.arguments
    numbers = problem.term.numbers
    shape = (problem.queries, problem.gallery, int(problem.packed.self_form), int(symmetric))
    (workspace,) = kernels.ask("statistics_workspace", problem.dtype, shape, numbers, term)
    nothing = x.new_empty(0, dtype=problem.dtype)
    rows = nothing.new_empty(3 * PAIR_CHANNELS[term], problem.rows)
    state = nothing.new_empty(PAIR_STATE_ROWS[term], problem.rows)
    live = live_tiles(x, gallery)
    kernels.run(
        "statistics",
        [
            *arrays,
            None if inputs is None else problem.sort(inputs),
            *problem.pair_counts,
            nothing.new_empty(workspace),
            rows,
            state,
            live[: problem.tiles],
        ],
        [*sizes, int(symmetric)],
        numbers,
        term,
    )
    rows = problem.unsort(rows)
    rows[: PAIR_CHANNELS[term]].masked_fill_(problem.lost, float("nan"))
    return rows, problem.unsort(state), live, nothing, nothing.clone()


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
    grad_x: Tensor,
    grad_gallery: Tensor,
    need_x: bool,
    need_gallery: bool,
    need_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of the gallery and of the inputs, each empty where it is not needed."""
    need_gallery = need_gallery and gallery is not None
    need_inputs = need_inputs and inputs is not None
    nothing = grad_sums.new_empty(0)
    if not (need_x or need_gallery or need_inputs):
        return x.new_empty(0), x.new_empty(0), nothing
    problem = prepare(x, labels, gallery, gallery_labels, term, params, metric, normalize, symmetric)
    numbers = problem.term.numbers
    layout = kernels.ask("term_layout", problem.dtype, (), numbers, term)
    scales = nothing.new_empty(layout[4], problem.rows)
    grad_inputs = nothing.new_empty(PAIR_INPUTS[term], problem.rows) if need_inputs else None
    kernels.run(
        "scales",
        [problem.sort(state), problem.sort(grad_sums), scales, grad_inputs],
        [problem.rows],
        numbers,
        term,
    )
    found = gradients(
        problem,
        scales,
        live[: problem.tiles],
        query_only=query_only,
        need_x=need_x,
        need_gallery=need_gallery,
    )
    found_x, found_gallery = (x.new_empty(0) if grad is None else grad for grad in found)
    return found_x, found_gallery, nothing if grad_inputs is None else problem.unsort(grad_inputs)

"""Pair losses by chunks: the operators, and the reference rows of each term."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..reference import (
    circle,
    contrastive,
    lifted,
    margin,
    multi_similarity,
    ranked_list,
    softmax,
    sup_con,
)
from .chunked_sweep import RowFunction, Sweep
from .schemas import PAIR_CHANNELS


def _contrastive(pos_margin: float, neg_margin: float, power: float) -> RowFunction:
    return partial(contrastive.rows, pos_margin=pos_margin, neg_margin=neg_margin, power=int(power))


def _ranked_list(
    alpha: float,
    margin: float,
    temperature_neg: float,
    temperature_pos: float,
    pos_weight: float,
    neg_weight: float,
    exact: float,
    mean_all: float,
    eps: float,
) -> RowFunction:
    return partial(
        ranked_list.rows,
        alpha=alpha,
        margin=margin,
        temperature_neg=temperature_neg,
        temperature_pos=temperature_pos,
        pos_weight=pos_weight,
        neg_weight=neg_weight,
        constant_weights=not exact,
        positive_mean="all" if mean_all else "active",
        eps=eps,
    )


# the reference rows of each pair term, from the operator's flat parameters
PAIR_TERMS: dict[str, Callable[..., RowFunction]] = {
    "contrastive": _contrastive,
    "ranked_list": _ranked_list,
    "sup_con": lambda scale: partial(sup_con.rows, scale=scale),
    "negatives_lse": lambda scale, shift: partial(softmax.negatives_lse, scale=scale, shift=shift),
    "softplus_negatives": lambda scale, reach: partial(softmax.softplus_negatives, scale=scale),
    "softplus_positives": lambda scale, shift: partial(softmax.softplus_positives, scale=scale, shift=shift),
    "multi_similarity": lambda alpha, beta, base, mined: partial(
        multi_similarity.rows, alpha=alpha, beta=beta, base=base
    ),
    "circle": lambda m, gamma: partial(circle.rows, m=m, gamma=gamma),
    "lifted": lambda pos_margin, neg_margin: partial(
        lifted.rows, pos_margin=pos_margin, neg_margin=neg_margin
    ),
    "margin": lambda width: partial(margin.rows, margin=width),
}


def pair_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: str,
    normalize: bool,
    fused: str,
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows; nothing is kept for backward, whatever `fused` asks for."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    function, channels = PAIR_TERMS[term](*params), PAIR_CHANNELS[term]
    rows = sweep.forward_either_way(function, channels, inputs, symmetric)
    return rows, rows.new_empty(0), rows.new_empty(0, dtype=torch.uint8), rows.new_empty(0), rows.new_empty(0)


def pair_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: str,
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
    """Gradients of the pair losses."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    function = PAIR_TERMS[term](*params)
    rows, others, grad_inputs = sweep.backward_either_way(
        function, grad_sums, inputs, symmetric, query_only=query_only
    )
    grad_inputs = grad_inputs if need_inputs else grad_inputs.new_empty(0)
    return *sweep.gradients(rows, others, need_x, need_gallery), grad_inputs

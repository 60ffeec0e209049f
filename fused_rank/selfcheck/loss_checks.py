"""The losses: values query by query, and gradients under random upstream gradients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import functional
from . import oracle
from .batch import Batch
from .oracle import Rows
from .tolerance import TOLERANCES, Check, Difference, Tolerance, compare_gradients, compare_values


@dataclass(frozen=True)
class Loss:
    """A loss, its definition, and the options that make both the same."""

    function: Callable[..., Tensor]
    expected: Callable[[Batch], Rows]
    options: dict[str, Any] = field(default_factory=dict)
    form: Callable[[Batch], Batch] = lambda batch: batch  # what of the batch it takes


def check_loss(loss: Loss) -> Check:
    def check(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
        given = loss.form(batch)
        query_only = loss.options.get("gradient") == "query"
        arguments = given.arguments
        if query_only and given.y is not None:
            arguments["gallery"] = given.y.detach()
        expected, gap = loss.expected(given)
        value = loss.function(given.x, **arguments, **loss.options, reduction="none")
        yield from _compare(value, expected, gap, batch, tolerance, query_only)

    return check


def margin_of_classes(batch: Batch, border: Tensor, nu: float) -> Rows:
    """Margin loss with the border of each class, plus ν of it where a query has triplets."""
    own, (positive, negative) = border[batch.labels.cpu()], batch.masks
    losses, gap = oracle.margin(batch.distances(), positive, negative, own)
    return losses + nu * own * (positive.any(1) & negative.any(1)), gap


def learned_borders(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    """Margin loss with a border for each class, its gradient too."""
    border = 1.2 + 0.1 * torch.randn(int(batch.labels.max()) + 1, generator=batch.random)
    dtype = torch.float64 if batch.x.dtype == torch.float64 else torch.float32
    given = border.to(batch.x.device, dtype, copy=True).requires_grad_()
    exact = border.double().requires_grad_()
    value = functional.margin_loss(batch.x, **batch.arguments, beta=given, nu=0.5, reduction="none")
    yield from _compare(value, *margin_of_classes(batch, exact, 0.5), batch, tolerance)
    yield compare_gradients(given, exact, TOLERANCES[dtype])


def explicit_triplets(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    size = len(batch.exact_x) if batch.exact_y is None else len(batch.exact_y)
    anchors, others = (
        len(batch.exact_x),
        [torch.randint(size, (100,), generator=batch.random) for _ in range(2)],
    )
    listed = (torch.randint(anchors, (100,), generator=batch.random), *others)
    d = batch.distances()
    violation = d[listed[0], listed[1]] - d[listed[0], listed[2]] + oracle.TRIPLET_MARGIN
    clear = violation.detach().abs() > tolerance.gap
    anchor, positive, negative = (index[clear].to(batch.x.device) for index in listed)
    value = functional.triplet_margin_loss(
        batch.x, gallery=batch.y, triplets=(anchor, positive, negative), reduction="sum"
    )
    expected = violation.relu()[clear].sum()
    yield compare_values(value.detach().cpu().double()[None], expected.detach()[None], tolerance)
    torch.autograd.backward((value, expected))
    yield compare_gradients(batch.x, batch.exact_x, tolerance)


def _compare(
    value: Tensor, expected: Tensor, gap: Tensor, batch: Batch, tolerance: Tolerance, query_only: bool = False
) -> Iterator[Difference]:
    """Values and gradients of the queries that decide nothing too narrowly."""
    clear = gap > tolerance.gap
    upstream = torch.randn(len(expected), generator=batch.random, dtype=torch.float64) * clear
    yield compare_values(value.detach().cpu().double()[clear], expected.detach()[clear], tolerance)
    torch.autograd.backward((value, expected), (upstream.to(value), upstream))
    yield compare_gradients(batch.x, batch.exact_x, tolerance)
    if batch.y is not None and batch.exact_y is not None and not query_only:
        yield compare_gradients(batch.y, batch.exact_y, tolerance)


def _of_distances(
    rows: Callable[..., Rows], metric: str = "euclidean", normalize: bool = True, detach: bool = False
) -> Callable[[Batch], Rows]:
    return lambda batch: rows(batch.distances(metric, normalize, detach), *batch.masks)


def _of_similarities(rows: Callable[..., Rows], *options: Any) -> Callable[[Batch], Rows]:
    return lambda batch: rows(oracle.similarities(batch.exact_x, batch.exact_others), *batch.masks, *options)


def _mined(mining: str, **geometry: Any) -> Loss:
    rows = partial(oracle.triplets, mining=mining)
    options = {"mining": mining, **geometry}
    return Loss(functional.triplet_margin_loss, _of_distances(rows, **geometry), options)


def _ranked_list(gradient: str) -> Loss:
    rows = partial(oracle.ranked_list, constant_weights=gradient != "exact")
    expected = _of_distances(rows, detach=gradient == "query")
    return Loss(functional.ranked_list_loss, expected, {"gradient": gradient})


def _margin(batch: Batch) -> Rows:
    return oracle.margin(batch.distances(), *batch.masks, batch.exact_x.new_full((len(batch.x),), 1.2))


def _n_pairs_unique(batch: Batch) -> Rows:
    chosen = oracle.first_pairs(batch.labels.cpu(), batch.masks[0])
    losses, gap = oracle.n_pairs(oracle.similarities(batch.exact_x, batch.exact_others, False), chosen)
    return losses + 0.002 * batch.exact_x.square().sum(1), gap


def _angular(batch: Batch) -> Rows:
    positive, negative = batch.masks
    chosen = oracle.first_pairs(batch.labels.cpu(), positive)
    return oracle.angular(batch.exact_x, batch.exact_others, chosen, negative)


def _angular_all(batch: Batch) -> Rows:
    losses, gap = oracle.angular(batch.exact_x, batch.exact_others, *batch.masks)
    return losses + 2 * _of_similarities(oracle.nt_xent, 1)(batch)[0], gap


_NT_XENT, _INFO_NCE = functional.nt_xent_loss, functional.info_nce_loss
_N_PAIRS, _ANGULAR = functional.n_pairs_loss, functional.angular_loss
_CONTRASTIVE, _SIMILARITY = functional.contrastive_loss, functional.multi_similarity_loss

LOSSES: dict[str, Loss] = {
    "ranked_list_loss, query": _ranked_list("query"),
    "ranked_list_loss, both": _ranked_list("both"),
    "ranked_list_loss, exact": _ranked_list("exact"),
    "contrastive_loss": Loss(_CONTRASTIVE, _of_distances(oracle.contrastive)),
    "contrastive_loss, cosine": Loss(
        _CONTRASTIVE, _of_distances(oracle.contrastive, "cosine"), {"metric": "cosine"}
    ),
    "triplet_margin_loss, hard": _mined("hard"),
    "triplet_margin_loss, semihard": _mined("semihard"),
    "triplet_margin_loss, all": _mined("all"),
    "triplet_margin_loss, all, raw squared": _mined("all", metric="sqeuclidean", normalize=False),
    "triplet_margin_loss, band": _mined("semihard_all"),
    "margin_loss": Loss(functional.margin_loss, _margin),
    "sup_con_loss": Loss(functional.sup_con_loss, _of_similarities(oracle.sup_con, 0.1)),
    "info_nce_loss": Loss(_INFO_NCE, _of_similarities(oracle.info_nce, 0.07, False), form=Batch.two_sets),
    "info_nce_loss, symmetric pairs": Loss(
        _INFO_NCE, _of_similarities(oracle.info_nce, 0.07, True), {"symmetric": True}, Batch.pairs
    ),
    "nt_xent_loss": Loss(_NT_XENT, _of_similarities(oracle.nt_xent, 0.07)),
    "n_pairs_loss": Loss(_N_PAIRS, _of_similarities(oracle.nt_xent, 1)),
    "n_pairs_loss, unique": Loss(
        _N_PAIRS, _n_pairs_unique, {"pairs": "unique", "normalize": False, "l2": 0.002}
    ),
    "angular_loss, unique": Loss(_ANGULAR, _angular),
    "angular_loss, all": Loss(_ANGULAR, _angular_all, {"pairs": "all", "npairs_weight": 2.0}),
    "multi_similarity_loss": Loss(_SIMILARITY, _of_similarities(oracle.multi_similarity)),
    "multi_similarity_loss, mined": Loss(
        _SIMILARITY, _of_similarities(oracle.multi_similarity, 0.1), {"mining_epsilon": 0.1}
    ),
    "circle_loss": Loss(functional.circle_loss, _of_similarities(oracle.circle)),
    "lifted_structure_loss": Loss(functional.lifted_structure_loss, _of_distances(oracle.lifted)),
}

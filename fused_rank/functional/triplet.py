"""Triplet margin loss as a function."""

from typing import Any

import torch
from torch import Tensor

from ..ops.judged_triplets import Judge, Sides, judged_triplet_rows, mined_rows_both_ways
from ..ops.option_checks import check_choice, check_flag, check_number
from ..ops.options import MININGS, Metric, Mining, Reduction
from ..ops.reduction import Rows, reduce
from ..ops.triplet import explicit_triplet_rows, triplet_rows
from ..ops.validation import check_pairs, check_row_for_each, check_triplets, check_values
from ..reference.triplet import default_reduction
from .common import check_common


def triplet_margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    triplets: tuple[Tensor, Tensor, Tensor] | None = None,
    mining_embeddings: Tensor | None = None,
    margin: float = 0.2,
    mining: Mining = "semihard",
    soft_margin: bool = False,
    symmetric: bool = False,
    exclude_closer_than: float | None = None,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction | None = None,
) -> Tensor:
    """Triplet margin loss; see `fused_rank.TripletMarginLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [1.1]])
    >>> labels = torch.tensor([0, 0, 1])
    >>> loss = triplet_margin_loss(x, labels, mining="hard", normalize=False, reduction="none")
    >>> [round(v, 4) for v in loss.tolist()]  # anchor 2 has no positive
    [0.1, 1.1, 0.0]
    """
    margin, soft_margin, symmetric, exclude_closer_than = check_triplet_options(
        margin, mining, soft_margin, symmetric, exclude_closer_than
    )
    normalize = check_common("none" if reduction is None else reduction, normalize, metric)
    reduction = default_reduction(mining) if reduction is None else reduction
    embeddings, labels, gallery, gallery_labels = check_pairs(
        embeddings, labels, gallery, gallery_labels, labels_needed=triplets is None
    )
    margin = float(margin)
    if triplets is not None:
        _refuse_beside_triplets(
            symmetric=symmetric or None,
            exclude_closer_than=exclude_closer_than,
            mining_embeddings=mining_embeddings,
        )
        indices = check_triplets(triplets, embeddings, gallery)
        return reduce(
            *explicit_triplet_rows(embeddings, gallery, indices, margin, soft_margin, metric, normalize),
            reduction,
        )
    sides = Sides(embeddings, labels, gallery, gallery_labels)
    if mining_embeddings is not None:
        _check_mining_embeddings(mining_embeddings, sides, mining, symmetric)
    if symmetric and gallery is None:
        raise ValueError(
            "gallery: expected a tensor [N, D] under symmetric=True, which compares two sets both ways, got None"
        )
    judged = mining_embeddings is not None or bool(exclude_closer_than)
    listed_both_ways = symmetric and mining in ("hard", "semihard")
    if judged or listed_both_ways:
        check_values("embeddings", embeddings)
    if judged:
        directions = [sides, sides.turned()] if symmetric else [sides]
        judges = [_judge(one, mining_embeddings, exclude_closer_than or 0.0) for one in directions]
        parts = [
            judged_triplet_rows(one, judge, mining, margin, soft_margin, metric, normalize)
            for one, judge in zip(directions, judges, strict=True)
        ]
    elif listed_both_ways:
        parts = mined_rows_both_ways(sides, mining, margin, soft_margin, metric, normalize)
    else:
        parts = [triplet_rows(*sides, mining, margin, soft_margin, metric, normalize, symmetric)]
    rows = parts[0] if len(parts) == 1 else Rows(*(torch.cat(both, 1) for both in zip(*parts, strict=True)))
    return reduce(*rows, reduction)


def _judge(sides: Sides, mining_embeddings: Tensor | None, closer_than: float) -> Judge:
    """Without labels both sides of pair i are described by row i of `mining_embeddings`, so it serves both ways."""
    if mining_embeddings is not None:
        return Judge(mining_embeddings, True, closer_than)
    return Judge(sides.candidates, False, closer_than)


def check_triplet_options(
    margin: float,
    mining: Mining,
    soft_margin: bool,
    symmetric: bool = False,
    exclude_closer_than: float | None = None,
) -> tuple[float, bool, bool, float | None]:
    """The numbers and flags among them; raise for options that the triplet loss cannot mean."""
    margin = check_number("margin", margin)
    check_choice("mining", mining, MININGS)
    soft_margin = check_flag("soft_margin", soft_margin)
    symmetric = check_flag("symmetric", symmetric)
    if exclude_closer_than is not None:
        exclude_closer_than = check_number("exclude_closer_than", exclude_closer_than)
        _check_one_negative("exclude_closer_than", mining)
    return margin, soft_margin, symmetric, exclude_closer_than


def _check_one_negative(name: str, mining: Mining) -> None:
    if mining not in ("hard", "semihard"):
        raise ValueError(
            f"{name}: expected mining 'hard' or 'semihard', which choose one negative for a positive, got {mining!r}"
        )


def _check_mining_embeddings(rows: Any, sides: Sides, mining: Mining, symmetric: bool) -> None:
    _check_one_negative("mining_embeddings", mining)
    name = "embeddings" if sides.gallery is None else "gallery"
    check_row_for_each("mining_embeddings", rows, name, sides.candidates)
    if symmetric and sides.labels is not None:
        raise ValueError(
            "mining_embeddings: expected no labels under symmetric=True, for they describe the gallery, and only in"
            " plain pairing the queries as well; call the loss once each way, each with embeddings of its gallery"
        )


def _refuse_beside_triplets(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            shown = type(value).__name__ if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"{name}: expected to be left out where triplets are given, got {shown}")

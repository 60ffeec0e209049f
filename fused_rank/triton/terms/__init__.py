"""The mathematics of pair losses on a tile; `csrc/terms/*.h` says the same for the CPU. A sweep calls a term and
knows no loss.

A new loss adds its file and its line in `_TERMS`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ...ops.options import PairMetric
from . import (
    circle,
    contrastive,
    lifted,
    margin,
    multi_similarity,
    nt_xent,
    ranked_list,
    softplus_negatives,
    sup_con,
)
from .term import Term

__all__ = ["Term", "for_gradient", "of"]

Make: TypeAlias = Callable[[Sequence[float], PairMetric, bool], tuple[Term, Any]]

_TERMS: dict[str, Make] = {
    "circle": circle.make,
    "contrastive": contrastive.make,
    "lifted": lifted.make,
    "margin": margin.make,
    "multi_similarity": multi_similarity.make,
    "negatives_lse": nt_xent.make_negatives,
    "ranked_list": ranked_list.make,
    "softplus_negatives": softplus_negatives.make,
    "softplus_positives": nt_xent.make_positives,
    "sup_con": sup_con.make,
}


def of(
    name: str, params: Sequence[float], metric: PairMetric, unit_rows: bool
) -> tuple[Term, tuple[float, ...]]:
    """The term that Python knows by `name`, and its parameters as kernels take them."""
    if name not in _TERMS:
        raise ValueError(f"unknown term: {name}")
    return _TERMS[name](params, metric, unit_rows)


def for_gradient(term: Term) -> Term:
    """The term with the same scales and slopes: those are compiled once."""
    return ranked_list.RANKED_LIST if term is ranked_list.RANKED_LIST_STREAMED else term

"""What a pair sweep is about: the rows of one side, each against all rows of the other, and the loss of those pairs."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..gpu.order import LabelOrder, reversed_ranges
from .configs import precision
from .operand import Operand, Packed
from .terms import Term

_APART = 1 << 30  # as tile.APART


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows `own` against `other`; in self form they are one object."""

    own: Operand
    other: Operand
    begin: Tensor  # int32 [own rows], sorted: where a row's positives lie among the sorted others
    end: Tensor
    term: Term
    params: tuple[float, ...]
    metric: str

    @property
    def self_form(self) -> bool:
        return self.own is self.other

    @property
    def arguments(self) -> dict[str, Any]:
        """What all kernels of pair sweeps are given."""
        return {
            "x": self.own.side,
            "y": self.other.side,
            "begin": self.begin,
            "end": self.end,
            "p": self.params,
            "rows": self.own.size,
            "columns": self.other.size,
            "width": self.own.width,
            "apart": 0 if self.self_form else _APART,
        }

    @property
    def constexprs(self) -> dict[str, Any]:
        return {"TERM": self.term, "METRIC": self.metric, "PRECISION": precision(self.own.source.dtype)}


def query_pairs(
    packed: Packed, order: LabelOrder, term: Term, params: tuple[float, ...], metric: str
) -> Pairs:
    """The queries against the gallery."""
    return Pairs(packed.query, packed.gallery, order.begin, order.end, term, params, metric)


def gallery_pairs(
    packed: Packed, order: LabelOrder, term: Term, params: tuple[float, ...], metric: str
) -> Pairs:
    """The gallery against the queries."""
    return Pairs(packed.gallery, packed.query, *reversed_ranges(order), term, params, metric)

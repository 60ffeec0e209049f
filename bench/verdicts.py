"""Holds a row against its bars."""

from collections.abc import Sequence

from .cases import Bar
from .implementations import OURS
from .results import Row, Verdict


def judge(bar: Bar, row: Row, rows: Sequence[Row]) -> Verdict:
    """The bar met or not; neither where the run lacks the other side of the comparison."""
    measured = _measured(bar, row, rows)
    if measured is None:
        return Verdict(bar, None, None)
    met = measured >= bar.limit if bar.kind == "faster" else measured <= bar.limit
    return Verdict(bar, measured, met)


def _measured(bar: Bar, row: Row, rows: Sequence[Row]) -> float | None:
    ours = row.result(OURS)
    if ours is None:
        return None
    if bar.kind == "units":
        return ours.units
    if bar.kind == "memory":
        return None if ours.peak_bytes is None else ours.peak_bytes / 2**20
    if bar.kind == "gradient":
        return ours.gradient_error
    if bar.kind == "faster":
        other = row.result(bar.against)
        return None if other is None else other.slower
    return _time_ratio(row, next((other for other in rows if other.case == bar.against), None))


def _time_ratio(row: Row, other: Row | None) -> float | None:
    """Our time over our time in a case of the same shape, both in u: the machine's drift cancels."""
    ours, theirs = row.result(OURS), other.result(OURS) if other else None
    if ours is None or theirs is None or ours.units is None or not theirs.units:
        return None
    return ours.units / theirs.units

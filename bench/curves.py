"""Time and memory against the batch size, the data of the charts. Every point is a process of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

from . import isolated
from .cases import Case
from .implementations import OURS
from .results import Point
from .runner import Report

WIDTH = 128


@dataclass(frozen=True)
class Curve:
    title: str
    case: Case
    contenders: tuple[str, ...]


def curves(full: bool) -> list[Curve]:
    ranked = Case("curve", "ranked_list", 0, WIDTH, "early", {"gradient": "both"})
    chosen = [Curve("ranked list loss", ranked, (OURS, "eager", "chunked", "pml"))]
    if full:
        semihard = Case("curve", "triplet", 0, WIDTH, "early", {"mining": "semihard"})
        contrastive = Case("curve", "contrastive", 0, WIDTH, "early", {"neg_margin": 1.2})
        triplets = Case("curve", "triplet", 0, WIDTH, "early", {"mining": "all"})
        chosen += [
            Curve("semi-hard triplets", semihard, (OURS, "eager", "chunked", "sort")),
            Curve("all triplets", triplets, (OURS, "eager", "pml", "cubic")),
            Curve("contrastive loss", contrastive, (OURS, "eager", "chunked", "pml")),
        ]
    return chosen


def measure(curve: Curve, sizes: list[int], budget: float, report: Report) -> Iterator[Point]:
    """Doubles the batch until a contender runs out of memory, or would take longer than its budget."""
    for name in curve.contenders:
        report(f"chart of the {curve.title}: {name}")
        last = 0.0
        for rows in sizes:
            if 4 * last > budget:
                yield Point(curve.title, name, rows, curve.case.width, None, None, "over time")
                break
            outcome = isolated.measure(curve.case.resized(rows), name, time_limit=60)
            if outcome.status != "ok":
                yield Point(curve.title, name, rows, curve.case.width, None, None, outcome.status)
                break
            last = outcome.seconds
            yield Point(curve.title, name, rows, curve.case.width, outcome.seconds, outcome.peak_bytes)

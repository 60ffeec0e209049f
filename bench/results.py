"""What a run leaves behind: rows, curves and the machine, to and from JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .cases import Bar
from .timing import Quantiles

FORMAT = 1


@dataclass
class Result:
    """One contender on one case. Times in seconds; a note stands where there is no time."""

    implementation: str
    time: Quantiles | None = None
    samples: int = 0
    units: float | None = None  # time in u, the median over rounds
    slower: float | None = None  # how many times fused_rank's time, the median over rounds
    peak_bytes: int | None = None
    value_error: float | None = None
    gradient_error: float | None = None
    note: str = ""


@dataclass
class Verdict:
    """A bar of `cases`, and what was measured; None where the run lacks what it is judged by."""

    bar: Bar
    measured: float | None
    met: bool | None


@dataclass
class Row:
    case: str
    loss: str
    options: dict[str, Any]
    rows: int
    width: int
    data: str
    unit_seconds: float
    active_negatives: float
    results: list[Result] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def result(self, implementation: str) -> Result | None:
        return next((r for r in self.results if r.implementation == implementation), None)


@dataclass
class Point:
    """One contender at one batch size of a chart."""

    title: str
    implementation: str
    rows: int
    width: int
    seconds: float | None
    peak_bytes: int | None
    note: str = ""


@dataclass
class Run:
    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def row(self, case: str) -> Row | None:
        return next((row for row in self.rows if row.case == case), None)


def save(run: Run, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": FORMAT, **asdict(run)}, indent=1) + "\n")


def load(path: Path) -> Run:
    stored = json.loads(path.read_text())
    if stored.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: expected a saved run of format {FORMAT}")
    rows = [_row(row) for row in stored.pop("rows")]
    points = [Point(**point) for point in stored.pop("points")]
    return Run(rows=rows, points=points, **stored)


def _row(stored: dict[str, Any]) -> Row:
    results = [_result(result) for result in stored.pop("results")]
    verdicts = [Verdict(Bar(**v["bar"]), v["measured"], v["met"]) for v in stored.pop("verdicts")]
    return Row(results=results, verdicts=verdicts, **stored)


def _result(stored: dict[str, Any]) -> Result:
    time = stored.pop("time")
    return Result(time=Quantiles(**time) if time else None, **stored)

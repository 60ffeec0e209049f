"""Runs cases: memory in processes of their own, then time in interleaved rounds, then errors against fp64."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import accuracy, data, isolated, timing, unit
from .cases import Case
from .implementations import OURS, Training, training
from .isolated import Outcome
from .results import Result, Row
from .timing import Quantiles
from .verdicts import judge

UNIT = "u"
SMALL_ROWS = 256  # a fifth of the time does up to here
ALWAYS_MEASURED = (OURS, "eager")  # whose errors stand in the table

Report = Callable[[str], None]


@dataclass
class Settings:
    full: bool = False
    timing_budget: float = 3.0  # seconds of timed rounds per case
    time_limit: float = 60.0  # seconds for one isolated step, its start included
    check_errors_to: int = 4096  # rows up to which fp64 is affordable
    compiled_memory: bool = False
    peaks: dict[tuple[object, ...], Outcome] = field(default_factory=dict)  # what is already measured


def run(cases: Iterable[Case], settings: Settings, report: Report) -> tuple[list[Row], list[str]]:
    """Rows of the cases in order, and the errors met; a slow or hungry contender is not an error."""
    chosen = list(cases)
    started = time.perf_counter()
    rows: list[Row] = []
    errors: list[str] = []
    try:
        for number, case in enumerate(chosen, 1):
            elapsed = time.perf_counter() - started
            report(f"[{number}/{len(chosen)}, {elapsed:.0f} s] {case.name}: {case.shape}, {case.data}")
            row, failures = run_case(case, settings)
            errors += [f"{case.name}, {failure}" for failure in failures]
            rows.append(row)
    except KeyboardInterrupt:
        errors.append("interrupted: the table holds what was measured until then")
    for row in rows:
        case = next(case for case in chosen if case.name == row.case)
        row.verdicts = [judge(bar, row, rows) for bar in case.bars]
    return rows, errors


def run_case(case: Case, settings: Settings) -> tuple[Row, list[str]]:
    x, labels = data.make(case.data, case.rows, case.width, case.per_class)
    near = data.active_negatives(x, labels)
    row = Row(case.name, case.loss, dict(case.options), case.rows, case.width, case.data, 0.0, near)
    outcomes = {name: _outcome(case, name, settings) for name in (OURS, *case.contenders(settings.full))}
    row.results = [_from_outcome(name, outcome) for name, outcome in outcomes.items()]
    failed = [(name, outcome) for name, outcome in outcomes.items() if outcome.status == "failed"]
    failures = [f"{name}: {outcome.message}" for name, outcome in failed]
    if case.isolated:
        _use_isolated_time(row, outcomes[OURS])
        return row, failures
    able = [name for name, outcome in outcomes.items() if outcome.status == "ok"]
    steps = {name: training(name, case) for name in able}
    try:
        _time(row, case, steps, outcomes, settings)
        _check(row, case, steps, settings)
    except Exception as error:
        failures.append(f"{type(error).__name__}: {error}".splitlines()[0])
    return row, failures


def _outcome(case: Case, name: str, settings: Settings) -> Outcome:
    """Memory does not depend on the data set where nothing is skipped: one measurement serves both."""
    if name == "compiled" and not settings.compiled_memory:
        return Outcome("ok")
    options = tuple(case.options.items())
    key = (name, case.loss, options, case.rows, case.width, case.data if name == OURS else "")
    if key not in settings.peaks:
        limit = settings.time_limit * (3 if case.isolated or name == "compiled" else 1)
        settings.peaks[key] = isolated.measure(case, name, time_limit=limit, with_unit=case.isolated)
    return settings.peaks[key]


def _from_outcome(name: str, outcome: Outcome) -> Result:
    if outcome.status == "ok":
        return Result(name, peak_bytes=outcome.peak_bytes or None)
    told = outcome.status == "out of memory" and outcome.peak_bytes
    return Result(name, note=f"{outcome.status}: {outcome.message}" if told else outcome.status)


def _use_isolated_time(row: Row, outcome: Outcome) -> None:
    if outcome.status != "ok":
        return
    row.unit_seconds = outcome.unit_seconds
    ours = row.results[0]
    ours.time = Quantiles(outcome.seconds, outcome.seconds, outcome.seconds)
    ours.samples, ours.units, ours.slower = 1, outcome.seconds / outcome.unit_seconds, 1.0


def _time(
    row: Row, case: Case, steps: dict[str, Training], outcomes: dict[str, Outcome], settings: Settings
) -> None:
    probe = unit.Probe(case.rows, case.width)
    budget = settings.timing_budget if case.rows > SMALL_ROWS else settings.timing_budget / 5
    known = {name: outcomes[name].seconds for name in steps}
    samples = timing.interleave({UNIT: probe, **steps}, budget, known)
    units = [None if s is None else unit.seconds(s, case.rows, case.width) for s in samples.pop(UNIT)]
    row.unit_seconds = timing.quantiles(units).p50
    for name, measured in samples.items():
        result = row.result(name)
        assert result is not None
        result.time = timing.quantiles(measured)
        result.samples = sum(sample is not None for sample in measured)
        result.units = timing.paired_ratio(measured, units)
        result.slower = timing.paired_ratio(measured, samples[OURS]) if OURS in samples else None


def _check(row: Row, case: Case, steps: dict[str, Training], settings: Settings) -> None:
    if case.rows > settings.check_errors_to or (case.data == "late" and not settings.full):
        return  # a late batch has next to nothing to get wrong
    exact = accuracy.oracle(case)
    for name in ALWAYS_MEASURED:
        result = row.result(name)
        if result is not None and name in steps:
            found = accuracy.errors(steps[name], exact)
            result.value_error, result.gradient_error = found.value, found.gradient

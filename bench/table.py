"""Tables for the terminal and for Markdown, from the same cells."""

from collections.abc import Sequence

from .implementations import LABELS, OURS
from .results import Result, Row, Run, Verdict

COLUMNS = (
    *("case", "D", "contender", "p20 / p50 / p80 ms"),
    *("u", "× fused_rank", "peak MiB", "value err", "grad err"),
)
NUMBERS_FROM = 3  # columns from here on are aligned to the right
BAR_COLUMNS = ("case", "bar", "measured", "met")
NOTHING = "–"


def result_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [_cells(row, result) for row in rows for result in row.results]


def bar_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [(row.case, v.bar.text, _measured(v), _met(v)) for row in rows for v in row.verdicts]


def terminal(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    widths = [max(len(row[c]) for row in (columns, *rows)) for c in range(len(columns))]
    lines = []
    for index, row in enumerate((columns, *rows)):
        left = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)][:numbers_from]
        right = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)][numbers_from:]
        lines.append("  ".join(left + right).rstrip())
        if index == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    rule = ["---:" if n >= numbers_from else "---" for n in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rule, *rows))


def machine_line(run: Run) -> str:
    m = run.machine
    return (
        f"{m['cpu']}, {m['threads']} threads of {m['cores']} cores, {m['isa']}, {m['memory_gib']} GiB, "
        f"{m['system']}; torch {m['torch']}, fused_rank {m['fused_rank']} at {m['commit']}"
    )


def whole_markdown(run: Run) -> str:
    blocks = (
        "# Benchmark",
        f"{machine_line(run)}.",
        "Forward and backward. u is the time of one B×B×D product (2B²D FLOP as 512³ `mm`), peak memory is "
        "above the inputs, errors are relative and against fp64 (a mined loss may there choose another of two "
        "nearly equal negatives).",
        markdown(COLUMNS, result_rows(run.rows), NUMBERS_FROM),
        "## Bars",
        markdown(BAR_COLUMNS, bar_rows(run.rows), 2),
    )
    return "\n\n".join(blocks) + "\n"


def comparison_rows(run: Run, other: Run) -> list[tuple[str, ...]]:
    """Our time in each case that both runs hold, in u too, which different machines share."""
    rows: list[tuple[str, ...]] = []
    for row in run.rows:
        theirs = other.row(row.case)
        now, then = row.result(OURS), theirs.result(OURS) if theirs else None
        if now is None or then is None or not (now.time and then.time and now.units and then.units):
            continue
        times = (_ms(then.time.p50), _ms(now.time.p50))
        in_units = (f"{then.units:.2f}", f"{now.units:.2f}", f"{now.units / then.units:.2f}")
        rows.append((row.case, *times, *in_units))
    return rows


COMPARISON_COLUMNS = ("case", "ms then", "ms now", "u then", "u now", "u now / then")


def _cells(row: Row, result: Result) -> tuple[str, ...]:
    name = LABELS[result.implementation]
    case, width = (row.case, str(row.width)) if result.implementation == OURS else ("", "")
    peak = _mebibytes(result.peak_bytes)
    if result.time is None:
        return (case, width, name, result.note or NOTHING, NOTHING, NOTHING, peak, NOTHING, NOTHING)
    times = " / ".join(_ms(t) for t in (result.time.p20, result.time.p50, result.time.p80))
    return (
        case,
        width,
        name,
        times,
        _number(result.units, ".2f"),
        _number(result.slower, ".2f"),
        peak,
        _number(result.value_error, ".0e"),
        _number(result.gradient_error, ".0e"),
    )


def _measured(verdict: Verdict) -> str:
    kind, measured = verdict.bar.kind, verdict.measured
    if measured is None:
        return NOTHING
    suffix = {"units": " u", "faster": " ×", "memory": " MiB", "gradient": "", "time of": " ×"}[kind]
    return (f"{measured:.1e}" if kind == "gradient" else f"{measured:.2f}") + _limit(verdict, suffix)


def _limit(verdict: Verdict, suffix: str) -> str:
    return suffix if verdict.bar.kind == "gradient" else f"{suffix} (limit {verdict.bar.limit:.3g})"


def _met(verdict: Verdict) -> str:
    return {True: "yes", False: "NO", None: "not measured"}[verdict.met]


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _mebibytes(peak: int | None) -> str:
    return NOTHING if peak is None else f"{peak / 2**20:.0f}"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)

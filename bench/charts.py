"""The curves as PNG: time and memory against the batch size, logarithmic both ways."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .implementations import LABELS, OURS
from .results import Point, Run
from .table import machine_line

# Distinguishable with the common colour deficiencies (Okabe and Ito, 2008).
STYLES = {
    OURS: ("#0072B2", "o"),
    "eager": ("#D55E00", "s"),
    "chunked": ("#009E73", "^"),
    "pml": ("#CC79A7", "D"),
    "sort": ("#E69F00", "v"),
    "cubic": ("#56B4E9", "X"),
}


def draw(run: Run, folder: Path) -> list[Path]:
    """time.png and memory.png, a panel for each loss."""
    if not run.points:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    time, memory = folder / "time.png", folder / "memory.png"
    _draw(run, time, "time, forward + backward (s)", lambda point: point.seconds)
    _draw(run, memory, "peak memory above the inputs (MiB)", _mebibytes)
    return [time, memory]


def _mebibytes(point: Point) -> float | None:
    return None if point.peak_bytes is None else point.peak_bytes / 2**20


def _draw(run: Run, path: Path, label: str, value: Callable[[Point], float | None]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = list(dict.fromkeys(point.title for point in run.points))
    size = (1.2 + 5.0 * len(titles), 4.2)
    figure, panels = pyplot.subplots(
        1, len(titles), figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for axes, title in zip(panels[0], titles, strict=True):
        points = [point for point in run.points if point.title == title]
        for name in dict.fromkeys(point.implementation for point in points):
            _line(axes, name, [point for point in points if point.implementation == name], value)
        _dress(axes, f"{title}, D = {points[0].width}", sorted({point.rows for point in points}))
    panels[0][0].set_ylabel(label)
    figure.supxlabel(machine_line(run), fontsize=6, color="#666666")
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _line(axes: Any, name: str, points: Sequence[Point], value: Callable[[Point], float | None]) -> None:
    measured = [(point.rows, value(point)) for point in points if value(point)]
    if not measured:
        return
    rows, values = zip(*measured, strict=True)
    colour, marker = STYLES[name]
    width, size, order = (2.4, 6, 3) if name == OURS else (1.4, 4.5, 2)
    style = {"color": colour, "marker": marker, "linewidth": width, "markersize": size, "zorder": order}
    axes.plot(rows, values, label=LABELS[name], **style)
    if points[-1].note:
        last = (rows[-1], values[-1])
        axes.annotate(
            points[-1].note, last, textcoords="offset points", xytext=(6, 4), fontsize=7, color=colour
        )


def _dress(axes: Any, title: str, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set(xscale="log", yscale="log", xlabel="batch size B", title=title)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)

"""The roofline as tables: for the documentation, and for any one shape on the terminal."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from .roofline import GPUS, Batch, Dtype, Gpu, Sweep, floor
from .schemes import (
    LOSSES,
    eager,
    gradient,
    one_pass,
    plan,
    seconds,
    selection,
    statistics,
    strip_gradient,
    symmetric_statistics,
    tile_of,
)
from .table import markdown, terminal

PAGE = Path(__file__).parent.parent / "docs" / "gpu.md"
BEGIN, END = "<!-- roofline:begin -->", "<!-- roofline:end -->"
SHAPES = [(rows, width) for width in (128, 512) for rows in (4096, 16384, 65536)]
COLUMNS = ("sweep", "product", "epilogue", "L2", "HBM", "floor", "bound by")
LOSS_COLUMNS = ("loss", "dtype", *(f"{rows}×{width}" for rows, width in SHAPES))
CHOICE_SHAPES = [(16384, 128), (16384, 512)]
CHOICE_COLUMNS = ("sweep", "dtype", *(f"{rows}×{width}" for rows, width in CHOICE_SHAPES))


def loss_rows(gpu: Gpu) -> list[tuple[str, ...]]:
    """Floor of the chosen sweeps / of eager, and in which part most of ours goes, for every loss and shape."""
    rows = []
    for loss in LOSSES:
        for dtype in ("fp32", "bf16"):
            batches = [Batch(*shape, dtype) for shape in SHAPES]
            rows.append((loss, dtype, *(_against_eager(loss, batch, gpu) for batch in batches)))
    return rows


def choice_rows(gpu: Gpu) -> list[tuple[str, ...]]:
    """The schemes that were weighed against each other, with what binds each."""
    rows = []
    for dtype in ("fp32", "bf16"):
        for schemes in zip(*(_weighed(Batch(*shape, dtype)) for shape in CHOICE_SHAPES), strict=True):
            floors = [floor(scheme, gpu) for scheme in schemes]
            cells = (f"{_time(found.seconds)} {found.bound}" for found in floors)
            rows.append((schemes[0].name, dtype, *cells))
    return rows


def _weighed(batch: Batch) -> list[Sweep]:
    statistic, slope, select = (tile_of(kernel, batch) for kernel in ("statistics", "gradient", "selection"))
    found = [
        *(scheme("ranked_list", batch, statistic) for scheme in (statistics, symmetric_statistics)),
        *(scheme("ranked_list", batch, slope) for scheme in (gradient, strip_gradient, one_pass)),
        selection(batch, select),
    ]
    if batch.dtype == "fp32":
        found.append(replace(selection(batch, select, exact=False), name="selection, tf32x3"))
    return found


def sweep_rows(sweeps: list[Sweep], gpu: Gpu) -> list[tuple[str, ...]]:
    """The parts of each sweep's floor."""
    rows = []
    for sweep in sweeps:
        f = floor(sweep, gpu)
        parts = (_time(part) for part in (f.product, f.epilogue, f.l2, f.hbm, f.seconds))
        rows.append((sweep.name, *parts, f.bound))
    return rows


def documentation() -> str:
    """The block between the roofline marks of docs/gpu.md."""
    blocks = []
    for gpu in GPUS.values():
        blocks += [f"{gpu.name}, ms on paper, ours / eager:", markdown(LOSS_COLUMNS, loss_rows(gpu), 2)]
    columns = CHOICE_COLUMNS[:2] + tuple(f"{gpu} {shape}" for gpu in GPUS for shape in CHOICE_COLUMNS[2:])
    both = zip(*(choice_rows(gpu) for gpu in GPUS.values()), strict=True)
    rows = [(*first, *second[2:]) for first, second in both]
    blocks += ["Schemes that were weighed, ms on paper and what binds:", markdown(columns, rows, 2)]
    return "\n\n".join(blocks)


def write(page: Path) -> None:
    """Put the block into the page, between its marks."""
    text = page.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(f"{text[:begin]}\n{documentation()}\n{text[end:]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description="Floors, not measurements.")
    parser.add_argument("--gpu", default="H100", choices=tuple(GPUS))
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", default="fp32", choices=get_args(Dtype))
    parser.add_argument("--positives", type=int, default=3, help="of each row")
    parser.add_argument("--write", action="store_true", help="renew the tables of docs/gpu.md")
    options = parser.parse_args()
    if options.write:
        write(PAGE)
        return
    gpu = GPUS[options.gpu]
    batch = Batch(options.rows, options.width, options.dtype, options.positives)
    print(f"{gpu.name}, {batch.rows}×{batch.width} {batch.dtype}: floors on paper, nothing is measured")
    for loss in LOSSES:
        print(f"\n{loss}: {_against_eager(loss, batch, gpu)}, ours / eager")
        print(terminal(COLUMNS, sweep_rows([*plan(loss, batch), eager(loss, batch)], gpu), 1))


def _against_eager(loss: str, batch: Batch, gpu: Gpu) -> str:
    ours, theirs = seconds(plan(loss, batch), gpu), seconds([eager(loss, batch)], gpu)
    return f"{_time(ours)} / {_time(theirs)}"


def _time(value: float) -> str:
    """Milliseconds to three digits."""
    milliseconds = value * 1e3
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"

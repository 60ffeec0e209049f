"""The roofline as tables: for the documentation, and for any one shape on the terminal."""

import argparse
from typing import get_args

from .roofline import GPUS, Batch, Dtype, Gpu, Sweep, floor
from .schemes import (
    LOSSES,
    Tile,
    eager,
    gradient,
    one_pass,
    plan,
    seconds,
    statistics,
    strip_gradient,
    symmetric_statistics,
)
from .table import markdown, terminal

SHAPES = [(rows, width) for width in (128, 512) for rows in (4096, 16384, 65536)]
COLUMNS = ("sweep", "product", "epilogue", "L2", "HBM", "floor", "bound by")
LOSS_COLUMNS = ("loss", "dtype", *(f"{rows}×{width}" for rows, width in SHAPES))
CHOICE_COLUMNS = ("sweep", "dtype", *LOSS_COLUMNS[2:])


def loss_rows(gpu: Gpu) -> list[tuple[str, ...]]:
    """Floor of the chosen sweeps / of eager, and in which part most of ours goes, for every loss and shape."""
    rows = []
    for loss in LOSSES:
        for dtype in ("fp32", "bf16"):
            batches = [Batch(*shape, dtype) for shape in SHAPES]
            rows.append((loss, dtype, *(_against_eager(loss, batch, gpu) for batch in batches)))
    return rows


def choice_rows(gpu: Gpu) -> list[tuple[str, ...]]:
    """The schemes that were weighed against each other, of the ranked list loss."""
    rows = []
    for dtype in get_args(Dtype)[:2]:
        tile = _tile(dtype)
        for scheme in (statistics, symmetric_statistics, one_pass, gradient, strip_gradient):
            sweeps = [scheme("ranked_list", Batch(*shape, dtype), tile) for shape in SHAPES]
            cells = (f"{_time(floor(s, gpu).seconds)} {floor(s, gpu).bound}" for s in sweeps)
            rows.append((sweeps[0].name, dtype, *cells))
    return rows


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
        blocks += [f"**{gpu.name}**, ours / eager:", markdown(LOSS_COLUMNS, loss_rows(gpu), 2)]
    for gpu in GPUS.values():
        blocks += [
            f"**{gpu.name}**, schemes of the ranked list loss, and what binds:",
            markdown(CHOICE_COLUMNS, choice_rows(gpu), 2),
        ]
    return "\n\n".join(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description="Floors, not measurements.")
    parser.add_argument("--gpu", default="H100", choices=tuple(GPUS))
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", default="fp32", choices=get_args(Dtype))
    parser.add_argument("--positives", type=int, default=3, help="of each row")
    parser.add_argument("--documentation", action="store_true", help="the tables of docs/gpu.md")
    options = parser.parse_args()
    if options.documentation:
        print(documentation())
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


def _tile(dtype: Dtype) -> Tile:
    return Tile(slice=128 if dtype == "fp32" else 256)


def _time(value: float) -> str:
    """Milliseconds to three digits."""
    milliseconds = value * 1e3
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"

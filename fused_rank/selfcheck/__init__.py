"""``python -m fused_rank selfcheck``: every operation on this machine's own device, against fp64."""

import argparse
import os
import sys
import time

import torch

from ..ops import dispatch
from .batch import SHAPES
from .runner import NOT_SERVED, Line, Served, run

__all__ = ["Served", "add_arguments", "main", "run", "table", "verdict"]


def table(lines: list[Line]) -> str:
    """The lines as text; below, what a backend serves in no dtype and why, and what failed and how."""
    dtypes = list(lines[0].cells)
    names = [_name(dtype) for dtype in dtypes]
    rows = [["operation", "backend", "default", "ran", "kernels", *names, "s"]]
    for line in lines:
        cells = [line.cells[dtype].text for dtype in dtypes]
        launches = str(line.launches) if line.launches else NOT_SERVED
        served = line.served or NOT_SERVED
        default = "yes" if line.default else ""
        rows.append([line.operation, line.backend, default, served, launches, *cells, f"{line.seconds:.1f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    text += dict.fromkeys(
        line.cells[dtypes[0]].lacks for line in lines if all(cell.lacks for cell in line.cells.values())
    )
    for line in lines:
        for dtype, cell in line.cells.items():
            if cell.problem:
                text.append(f"{line.operation}, {line.backend}, {_name(dtype)}: {cell.problem}")
    return "\n".join(text)


def verdict(lines: list[Line], complete: bool = True) -> list[str]:
    """What is wrong, one sentence each; empty where all is well.

    With all backends at hand (`complete`) something must serve every operation in every dtype; with some of them, every
    operation in some dtype.
    """
    wrong: list[str] = []
    ran: set[tuple[str, torch.dtype | None]] = set()
    for line in lines:
        for dtype, cell in line.cells.items():
            if cell.failed:
                wrong.append(f"{line.operation} in {_name(dtype)} under {line.backend}")
            if cell.failed or cell.worst:
                ran |= {(line.operation, dtype), (line.operation, None)}
    for operation in dict.fromkeys(line.operation for line in lines):
        if not complete and (operation, None) not in ran:
            wrong.append(f"{operation}: nothing ran")
        elif complete:
            missing = [dtype for dtype in lines[0].cells if (operation, dtype) not in ran]
            wrong += [f"{operation} in {_name(dtype)}: nothing ran" for dtype in missing]
    return wrong


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is a GPU")
    parser.add_argument(
        "--backend", action="append", choices=tuple(dispatch.BACKENDS), help="only this (repeatable)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes (default: up to 8 on a GPU, for compiling)"
    )


def main(options: argparse.Namespace) -> int:
    """Check and print: 0 where everything agrees with fp64, 1 where something does not, 2 without the device."""
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        print(
            "selfcheck: --device cuda needs a CUDA or ROCm GPU that this torch can use, and torch.cuda.is_available()"
            " is False.",
            file=sys.stderr,
        )
        return 2
    device = torch.device(options.device or ("cuda" if there else "cpu"))
    started = time.perf_counter()
    print(_introduction(device, there))
    jobs = options.jobs or (min(8, os.cpu_count() or 1) if device.type == "cuda" else 1)
    lines = run(device, options.backend or able(device), jobs=jobs)
    print(table(lines))
    wrong = verdict(lines, complete=options.backend is None and dispatch.forced() is None)
    print(
        f"\n{len(lines)} checks in {time.perf_counter() - started:.0f} s: "
        + ("FAILED" if wrong else "all agree with fp64")
    )
    print("\n".join(f"wrong: {what}" for what in wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


def able(device: torch.device) -> list[str]:
    """The backends that serve something on the device; the one forced by the environment, if any, alone."""
    forced = dispatch.forced()
    if forced is not None:
        return [forced]
    return [
        name
        for name, backend in dispatch.BACKENDS.items()
        if backend.device_type in (None, device.type) and backend.absent() is None
    ]


def _introduction(device: torch.device, gpu: bool) -> str:
    if device.type == "cuda":
        where = f"on {torch.cuda.get_device_name(device)}"
    else:
        where = "on the CPU" + (
            "" if gpu else ": this machine has no GPU that torch can use, so none is checked"
        )
    shapes = ", ".join(f"{m}×{n or m}×{width}" for m, n, width in SHAPES)
    return (
        f"fused_rank selfcheck {where}. Every operation against its definition in fp64, shapes {shapes}."
        f" Shown is the error nearest to what is allowed.\n{_absent(device)}"
    )


def _absent(device: torch.device) -> str:
    """Why the other backends of the device are not checked, a line each."""
    return "".join(
        f"{name} is not checked: {reason}\n"
        for name, backend in dispatch.BACKENDS.items()
        if backend.device_type in (None, device.type) and (reason := backend.absent()) is not None
    )

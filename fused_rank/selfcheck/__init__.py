"""``python -m fused_rank selfcheck``: every operation on this machine's own device, against fp64."""

import argparse
import contextlib
import sys
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..ops import dispatch
from . import checks
from .checks import CHECKS, SHAPES, TOLERANCES, Difference, make_batch

DTYPES = tuple(TOLERANCES)
NOT_SERVED = "–"
WITHOUT_BACKEND = "pairwise_distance"  # PyTorch products make it, whichever backend is chosen


class Served(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, watches which backends' operators really run, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace.startswith("fused_rank"):
            self.names[function.namespace.removeprefix("fused_rank").strip("_") or "cpp"] = None
        return function(*args, **(kwargs or {}))

    @property
    def text(self) -> str:
        """Their names; PyTorch where no operator of ours ran."""
        return " + ".join(self.names) or "PyTorch"


@dataclass
class Cell:
    """One operation under one backend in one dtype; `worst` is None where the backend does not serve it."""

    worst: Difference | None = None
    problem: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.problem) or (self.worst is not None and not self.worst.share <= 1)

    @property
    def text(self) -> str:
        if self.problem:
            return "FAIL"
        if self.worst is None:
            return NOT_SERVED
        return f"{'FAIL' if self.failed else 'ok'} {self.worst.error:.0e}"


@dataclass
class Line:
    """One operation under one backend."""

    operation: str
    backend: str
    default: bool = False  # what runs where no backend is asked for
    served: str = ""
    launches: int = 0
    cells: dict[torch.dtype, Cell] = field(default_factory=dict)
    seconds: float = 0.0


def run(device: torch.device, backends: list[str], dtypes: tuple[torch.dtype, ...] = DTYPES) -> list[Line]:
    """Every check under each of the backends, asked for by name."""
    lines = []
    for operation in CHECKS:
        chosen = _default(operation, device)
        for backend in ["eager"] if operation == WITHOUT_BACKEND else backends:
            started = time.perf_counter()
            line = Line(operation, backend, backend in chosen)
            for dtype in dtypes:
                line.cells[dtype] = _cell(line, dtype, device)
            line.seconds = time.perf_counter() - started
            lines.append(line)
    return lines


def _default(operation: str, device: torch.device) -> dict[str, None]:
    """The backends that run the operation in fp32 where none is asked for, seen at work on a small batch."""
    batch = make_batch(17, None, 16, torch.float32, device, 0)
    with Served() as served, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):  # what fails has its own line
            list(CHECKS[operation](batch, TOLERANCES[torch.float32]))
    return served.names


def _cell(line: Line, dtype: torch.dtype, device: torch.device) -> Cell:
    differences: list[Difference] = []
    launched = _launches()
    try:
        with dispatch.use_backend(line.backend), Served() as served, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed, shape in enumerate(SHAPES):
                batch = make_batch(*shape, dtype, device, seed)
                differences += CHECKS[line.operation](batch, TOLERANCES[dtype])
    except Exception as error:
        if isinstance(error, RuntimeError) and "cannot serve" in str(error):
            return Cell()
        return Cell(problem=f"{type(error).__name__}: {error}".splitlines()[0])
    line.served = served.text
    line.launches += _launches() - launched
    if served.names and line.backend not in served.names:
        return Cell(problem=f"{served.text} ran in its place")
    if "triton" in served.names and _launches() == launched:
        return Cell(problem="no Triton kernel was launched")
    return Cell(max(differences, key=lambda difference: difference.share))


def _launches() -> int:
    """Triton kernels launched so far; 0 where that backend was never needed."""
    module = sys.modules.get("fused_rank.triton.launch")
    return 0 if module is None else sum(module.counts().values())


def table(lines: list[Line]) -> str:
    """The lines as text, failures explained below."""
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
    lines = run(device, options.backend or able(device))
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
        if backend.missing is None and backend.device_type in (None, device.type)
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
        f"{name} is not checked: {backend.missing}\n"
        for name, backend in dispatch.BACKENDS.items()
        if backend.missing is not None and backend.device_type in (None, device.type)
    )


__all__ = ["Served", "checks", "main", "run"]

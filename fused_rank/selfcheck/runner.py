"""Runs the checks, watching what really served each."""

import contextlib
import sys
import time
import warnings
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..ops import dispatch
from .batch import SHAPES, make_batch
from .checks import CHECKS
from .tolerance import TOLERANCES, Difference

DTYPES = tuple(TOLERANCES)
NOT_SERVED = "–"
_LAUNCHERS = {
    "triton": "fused_rank.triton.launch",
    "cuda": "fused_rank.cuda.kernels",
}  # they count their kernels
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
    lacks: str = ""  # the reason where it does not

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


def run(
    device: torch.device, backends: list[str], dtypes: tuple[torch.dtype, ...] = DTYPES, jobs: int = 1
) -> list[Line]:
    """Every check under each of the backends, asked for by name; in `jobs` processes for what there is to compile."""
    chosen = [
        (operation, backend)
        for operation in CHECKS
        for backend in (["eager"] if operation == WITHOUT_BACKEND else backends)
    ]
    if jobs == 1:
        return [_told(_line(*one, device, dtypes), at, len(chosen)) for at, one in enumerate(chosen)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(_line, *one, device, dtypes) for one in chosen]
        return [
            _told(_result(future, *one, dtypes), at, len(chosen))
            for at, (future, one) in enumerate(zip(pending, chosen, strict=True))
        ]


def _told(line: Line, at: int, of: int) -> Line:
    """Says on stderr how far it is; the table comes at the end."""
    print(
        f"{at + 1} of {of}: {line.operation}, {line.backend}, {line.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )
    return line


def _line(operation: str, backend: str, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Line:
    started = time.perf_counter()
    line = Line(operation, backend, backend == _default(operation, device))
    for dtype in dtypes:
        line.cells[dtype] = _cell(line, dtype, device)
    line.seconds = time.perf_counter() - started
    return line


def _result(future: Future[Line], operation: str, backend: str, dtypes: tuple[torch.dtype, ...]) -> Line:
    try:
        return future.result()
    except Exception as error:  # the process died, and took the others with it
        problem = f"{type(error).__name__}: {error}"
        return Line(operation, backend, cells={dtype: Cell(problem=problem) for dtype in dtypes})


def _default(operation: str, device: torch.device) -> str:
    """The backend that is chosen for fp32 where none is asked for."""
    name = operation.split(",")[0]
    if name == WITHOUT_BACKEND:
        return "eager"
    with contextlib.suppress(RuntimeError):
        return dispatch.select(name, torch.empty(0, device=device)).name
    return ""


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
            return Cell(lacks=str(error))
        return Cell(problem=f"{type(error).__name__}: {error}".splitlines()[0])
    line.served = served.text
    line.launches += _launches() - launched
    if served.names and line.backend not in served.names:
        return Cell(problem=f"{served.text} ran in its place")
    if served.names.keys() & _LAUNCHERS.keys() and _launches() == launched:
        return Cell(problem="no kernel was launched")
    return Cell(max(differences, key=lambda difference: difference.share))


def _launches() -> int:
    """GPU kernels launched so far, by the backends that were ever needed."""
    needed = (module for name in _LAUNCHERS.values() if (module := sys.modules.get(name)) is not None)
    return sum(sum(module.counts().values()) for module in needed)

"""Peak memory of one contender on one case, measured in a process of its own.

The processes are forked from a server that has imported torch and run nothing, so a measurement starts
with empty allocators and costs no import. A child first runs a tiny batch (code pages, thread stacks, buffers
of the matrix library: none of these is the loss's memory), makes the inputs, returns what is free to the
system, resets the kernel's high-water mark and runs once. A baseline that asks for too much is refused by a
limit on the address space, and the machine stays well.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch

from . import timing, unit
from .cases import Case
from .implementations import OURS, Training, training

Status = Literal["ok", "out of memory", "over time", "failed"]
WARM_ROWS = 64
SAFE_SHARE = 0.9  # of the memory that is available


@dataclass(frozen=True)
class Outcome:
    """`seconds` are those of a step; `unit_seconds` is u, timed before and after."""

    status: Status
    peak_bytes: int = 0
    seconds: float = 0.0
    unit_seconds: float = 0.0
    message: str = ""


def estimated_bytes(name: str, case: Case) -> int:
    """Bytes that a contender needs at least, from the shapes of the largest tensors it must hold at once."""
    rows, entry = case.rows, 4
    if name == "cubic":
        return rows**3 * entry
    if name == "pml" and case.options.get("mining") in ("all", "semihard_all"):
        triplets = rows * (case.per_class - 1) * (rows - case.per_class)
        return triplets * 3 * 8 * 2  # three int64 index lists, in pieces and joined
    if name in (OURS, "chunked"):
        return 4 * rows * case.width * entry
    return 3 * rows**2 * entry


def available_bytes() -> int:
    """Memory that can be taken without swapping."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def measure(case: Case, name: str, *, time_limit: float, with_unit: bool = False) -> Outcome:
    """Runs one step of the contender in a fresh process."""
    needed = estimated_bytes(name, case)
    if needed > SAFE_SHARE * available_bytes():
        return Outcome("out of memory", needed, message=f"needs at least {needed / 2**30:.0f} GiB")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.implementations", "bench.isolated"])
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, case, name, torch.get_num_threads(), with_unit)
    process = context.Process(target=_child, args=arguments, daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(time_limit):
            process.kill()
            return Outcome("over time", message=f"more than {time_limit:.0f} s")
        outcome: Outcome = receiver.recv()
        return outcome
    except EOFError:  # the process died without a word
        process.join()
        return Outcome("failed", message=f"the process ended with {process.exitcode}")
    finally:
        process.join()
        receiver.close()


def _child(sender: Connection, case: Case, name: str, threads: int, with_unit: bool) -> None:
    torch.set_num_threads(threads)
    try:
        outcome = _measure_here(case, name, with_unit)
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError) or "allocate memory" in str(error)
        outcome = Outcome("out of memory" if lacking else "failed", message=_first_line(error))
    except Exception as error:
        outcome = Outcome("failed", message=_first_line(error))
    sender.send(outcome)
    sender.close()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _measure_here(case: Case, name: str, with_unit: bool) -> Outcome:
    training(name, case.resized(WARM_ROWS))()
    step = training(name, case)
    if name == "compiled":
        step()  # compiling takes memory of its own
        step.x.grad = None
    probe = unit.Probe(case.rows, case.width)
    units = [_unit_seconds(probe, case)] if with_unit else []
    _limit_address_space()
    peak, seconds = _peak(step)
    if seconds < timing.SLOW_STEP:  # the first step also pays for the memory it touches first
        seconds = timing.quantiles([seconds, timing.timed(step), timing.timed(step)]).p50
    units += [_unit_seconds(probe, case)] if with_unit else []
    return Outcome("ok", peak, seconds, sum(units) / max(len(units), 1))


def _unit_seconds(probe: unit.Probe, case: Case) -> float:
    return unit.seconds(timing.warm_up(probe), case.rows, case.width)


def _peak(step: Training) -> tuple[int, float]:
    gc.collect()
    _return_free_memory()
    before = _status_bytes("VmRSS:")
    with _peak_resident() as peak:
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
    return max(0, peak() - before), seconds


@contextlib.contextmanager
def _peak_resident() -> Iterator[Callable[[], int]]:
    """Highest resident size within the block: the kernel's mark where it may be reset, else samples."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # reset VmHWM, see proc(5)
    except OSError:
        with _sampled_resident() as sampled:
            yield sampled
    else:
        yield lambda: _status_bytes("VmHWM:")


@contextlib.contextmanager
def _sampled_resident(interval: float = 0.002) -> Iterator[Callable[[], int]]:
    highest = [_status_bytes("VmRSS:")]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(interval):
            highest[0] = max(highest[0], _status_bytes("VmRSS:"))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: highest[0]
    finally:
        done.set()
        thread.join()


def _status_bytes(key: str) -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_address_space() -> None:
    limit = _status_bytes("VmSize:") + int(SAFE_SHARE * available_bytes())
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _return_free_memory() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

"""`python -m bench --device cuda`: forward and backward on a GPU, beside the product the loss cannot do without."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fused_rank.selfcheck import Served

from . import accuracy, data, gpu_table, gpu_timing, machine, timing, unit
from .cases import Case
from .gpu_results import GpuRun, Result, Row, save
from .gpu_timing import CudaInstrument, Instrument
from .implementations import OURS, Training

CEILING = "mm"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPES = ((4096, 512), (16384, 128), (16384, 512))
COMPILED_SHAPE = SHAPES[0]  # a default run compiles the oracle at this one only: minutes each
# Products that forward and backward need at least: S, and C·X where the gradient is dense.
PRODUCTS = {"ranked_list": 2, "contrastive": 2, "hard": 1, "semihard": 1, "all": 2, "semihard_all": 2}
LOSSES: tuple[tuple[str, Any, dict[str, Any], tuple[str, ...]], ...] = (
    ("rll-query", "ranked_list", {"gradient": "query"}, ()),
    ("rll-both", "ranked_list", {"gradient": "both"}, ()),
    ("rll-exact", "ranked_list", {"gradient": "exact"}, ("pml",)),
    ("contrastive", "contrastive", {"neg_margin": 1.2}, ("pml",)),
    ("hard", "triplet", {"mining": "hard"}, ("pml",)),
    ("semihard", "triplet", {"mining": "semihard"}, ()),
    ("all", "triplet", {"mining": "all"}, ("pml",)),
    ("band", "triplet", {"mining": "semihard_all"}, ("pml",)),
)


def cases(quick: bool, full: bool) -> list[Case]:
    """Every loss at every shape, early data; a quick run has one small shape."""
    chosen = []
    for rows, width in ((512, 64),) if quick else SHAPES:
        for name, loss, options, more in LOSSES:
            compiled = full or (rows, width) == COMPILED_SHAPE
            baselines = ("eager", *(("compiled",) if compiled else ()), *more)
            chosen.append(
                Case(f"{name}-{rows}×{width}", loss, rows, width, "early", options, baselines=baselines)
            )
    return chosen


def main(options: argparse.Namespace, report: Callable[[str], None]) -> int:
    """Measure on the current CUDA device and write gpu.json and gpu.md; 2 where it can't, 1 where ours failed."""
    if not torch.cuda.is_available():
        print(
            "bench: --device cuda needs a CUDA or ROCm GPU that this torch can use, and torch.cuda.is_available() is"
            " False.",
            file=sys.stderr,
        )
        return 2
    chosen = cases(options.quick, options.full)
    if options.case:
        chosen = [case for case in chosen if case.name.startswith(tuple(options.case))]
    if not chosen:
        names = ", ".join(name for name, *_ in LOSSES)
        print(
            f"bench: no case on a GPU begins with {' or '.join(options.case)}; losses are {names}",
            file=sys.stderr,
        )
        return 2
    device, instrument = _here()
    run = measure(chosen, device, instrument, 0.2 if options.quick else 2.0, report)
    for path in (options.out / "gpu.json", *((options.json,) if options.json else ())):
        save(run, path)
    page = gpu_table.page(run)
    (options.out / "gpu.md").write_text(page, encoding="utf-8")
    print(page)
    print(f"{run.seconds:.0f} s; gpu.json and gpu.md in {options.out}")
    ours = [row.result(OURS) for row in run.rows]
    return 1 if any(result is None or result.time is None for result in ours) else 0


def _here() -> tuple[torch.device, Instrument]:
    device = torch.device("cuda", torch.cuda.current_device())
    return device, CudaInstrument(device)


def measure(
    chosen: list[Case],
    device: torch.device,
    instrument: Instrument,
    budget: float,
    report: Callable[[str], None],
) -> GpuRun:
    """Rows of the cases, in fp32 and bf16; `budget` seconds of timed samples for each."""
    started = time.perf_counter()
    run = GpuRun(describe(device), machine.describe())
    for number, case in enumerate(chosen, 1):
        for name, dtype in DTYPES.items():
            report(f"[{number}/{len(chosen)}, {time.perf_counter() - started:.0f} s] {case.name}, {name}")
            run.rows.append(_row(case, name, dtype, device, instrument, budget))
    run.seconds = time.perf_counter() - started
    return run


def describe(device: torch.device) -> dict[str, Any]:
    """The device by name, with what a number depends on."""
    if device.type != "cuda":
        return {"name": f"{device.type}, not a GPU"}
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "sms": found.multi_processor_count,
        "memory_gib": round(found.total_memory / 2**30, 1),
        "l2_mib": round(found.L2_cache_size / 2**20, 1),
        "cuda": torch.version.cuda or torch.version.hip,
        "fp32_matmul": torch.get_float32_matmul_precision(),
    }


def _row(
    case: Case, name: str, dtype: torch.dtype, device: torch.device, instrument: Instrument, budget: float
) -> Row:
    x, labels = data.make(case.data, case.rows, case.width, case.per_class)
    x, labels = x.to(device, dtype), labels.to(device)
    row = Row(case.name, case.rows, case.width, name, PRODUCTS[case.options.get("mining", case.loss)])
    out = x.new_empty(case.rows, case.rows)
    steps: dict[str, Callable[[], None]] = {CEILING: partial(_product, x, out)}
    costs = {CEILING: gpu_timing.warm(steps[CEILING], instrument)[0]}
    for contender in (OURS, *case.baselines):
        result = Result(contender)
        row.results.append(result)
        try:
            if contender == "compiled":
                torch.compiler.reset()  # or it gives up after some shapes of one function
            step = Training(contender, case, x, labels)
            costs[contender], result.peak_bytes = gpu_timing.warm(step, instrument, step.forget)
            steps[contender] = step
        except torch.OutOfMemoryError:
            result.note = "out of memory"
        except Exception as error:
            result.note = f"failed: {type(error).__name__}: {error}".splitlines()[0]
    _time(row, steps, costs, instrument, budget)
    _compare(row, steps)
    return row


def _product(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(x, x.t(), out=out)


def _time(
    row: Row,
    steps: dict[str, Callable[[], None]],
    costs: dict[str, float],
    instrument: Instrument,
    budget: float,
) -> None:
    flop = unit.flop(row.rows, row.width)
    samples = gpu_timing.interleave(steps, costs, instrument, budget)
    row.ceiling_flops = flop / timing.quantiles(samples.pop(CEILING)).p50
    for contender, measured in samples.items():
        result = row.result(contender)
        assert result is not None
        result.time = timing.quantiles(measured)
        result.samples = sum(taken is not None for taken in measured)
        result.flops = row.products * flop / result.time.p50
        result.slower = timing.paired_ratio(measured, samples[OURS]) if OURS in samples else None


def _compare(row: Row, steps: dict[str, Callable[[], None]]) -> None:
    """Who served our step, and how far its gradient is from eager's."""
    ours, eager = steps.get(OURS), steps.get("eager")
    result = row.result(OURS)
    if not isinstance(ours, Training) or result is None:
        return
    with Served() as served:
        ours()
    row.served = served.text
    if isinstance(eager, Training):
        result.difference = accuracy.relative(ours.gradient, eager.gradient)

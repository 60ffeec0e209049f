"""`bench --device cuda` without a GPU: its schedule under a clock of our own, its numbers, and what it says."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from . import __main__, gpu, gpu_results, gpu_table, gpu_timing, timing
from .cases import Case
from .implementations import LABELS, OURS, Training

CPU = torch.device("cpu")
MIB = 2**20


class FakeInstrument:
    """A device whose time passes only in steps, and whose steps cost more on a warm start of the clock."""

    def __init__(self) -> None:
        self.now, self.cold, self.watching = 0.0, False, False
        self.log: list[str] = []

    def flush(self) -> None:
        self.now += 100.0  # takes time, which no sample may contain
        self.cold = True

    def mark(self) -> float:
        self.log.append("mark")
        return self.now

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def forget_peak(self) -> None:
        self.watching = True

    def peak_bytes(self) -> int:
        assert self.watching
        return 3 * MIB

    def step(self, name: str, cost: float) -> Any:
        def run() -> None:
            self.now += cost if self.cold else cost / 1000  # a warm cache would flatter
            self.cold = False
            self.log.append(name)

        return run


def test_samples_are_cold_and_leave_the_flush_out() -> None:
    device = FakeInstrument()
    step = device.step("step", 0.25)
    assert [gpu_timing.sample(step, device) for _ in range(3)] == [0.25, 0.25, 0.25]
    assert device.log == ["mark", "step", "mark"] * 3


def test_warming_up_is_not_measured() -> None:
    device = FakeInstrument()
    forgotten: list[int] = []
    cost, peak = gpu_timing.warm(device.step("step", 0.5), device, lambda: forgotten.append(len(device.log)))
    assert (cost, peak) == (0.5, 3 * MIB)
    assert forgotten == [gpu_timing.WARM_UPS]
    assert device.log == ["step"] * gpu_timing.WARM_UPS + ["mark", "step", "mark"]


def test_contenders_alternate_and_slow_ones_take_fewer_turns() -> None:
    device = FakeInstrument()
    costs = {"quick": 0.01, "slow": 4.0}
    steps = {name: device.step(name, cost) for name, cost in costs.items()}
    samples = gpu_timing.interleave(steps, costs, device, budget=1.0)
    taken = {name: [value for value in values if value is not None] for name, values in samples.items()}
    assert len(samples["quick"]) == len(samples["slow"]) == 50
    assert len(taken["slow"]) == 1
    assert taken["quick"] == pytest.approx([0.01] * 50)
    assert timing.quantiles(samples["slow"]).p50 == pytest.approx(4.0)
    assert [name for name in device.log if name != "mark"][:3] == ["quick", "slow", "quick"]


class WallClock(FakeInstrument):
    """The CPU's own time, for runs of real steps."""

    def mark(self) -> float:
        return time.perf_counter()


def small_run(**changes: Any) -> gpu_results.GpuRun:
    chosen = [case.resized(48, 16).without("compiled") for case in gpu.cases(quick=True, full=False)]
    return gpu.measure(changes.get("chosen", chosen), CPU, WallClock(), 0.01, lambda line: None)


def test_every_loss_and_dtype_is_measured(tmp_path: Path) -> None:
    run = small_run()
    assert [(row.case, row.dtype) for row in run.rows] == [
        (case.name, dtype) for case in gpu.cases(True, False) for dtype in gpu.DTYPES
    ]
    for row in run.rows:
        ours, eager = row.result(OURS), row.result("eager")
        assert ours is not None
        assert eager is not None
        assert ours.time is not None, ours.note
        assert ours.slower == 1.0
        assert ours.peak_bytes == 3 * MIB
        assert ours.flops == pytest.approx(row.products * 2 * 48 * 48 * 16 / ours.time.p50)
        assert row.served
        assert ours.difference is not None
        assert ours.difference < (1e-4 if row.dtype == "fp32" else 1e-2) or "hard" in row.case
    gpu_results.save(run, tmp_path / "gpu.json")
    stored = json.loads((tmp_path / "gpu.json").read_text())
    assert stored["device"] == {"name": "cpu, not a GPU"}
    assert stored["rows"][0]["results"][0]["time"]["p50"] > 0
    page = gpu_table.page(run)
    assert "cpu, not a GPU" in page
    assert all(f"| {row.case} | {row.dtype} |" in page for row in run.rows)
    assert "2B²D" in page


def test_what_runs_out_of_memory_or_fails_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Training) -> None:
        if self.name == "eager":
            raise torch.OutOfMemoryError("CUDA out of memory")
        raise NotImplementedError("not for bf16\nand more")

    monkeypatch.setattr(Training, "__call__", refuse)
    case = Case("hard-48×16", "triplet", 48, 16, "early", {"mining": "hard"})
    row = small_run(chosen=[case]).rows[1]
    assert [result.note for result in row.results] == [
        "failed: NotImplementedError: not for bf16",
        "out of memory",
    ]
    assert row.ceiling_flops > 0
    run = gpu_results.GpuRun({"name": "x"}, {"torch": "x", "fused_rank": "x", "commit": "x"}, [row])
    assert "| out of memory |" in gpu_table.page(run)


def test_effective_flop_by_hand() -> None:
    run = gpu_results.GpuRun({"name": "x"}, {"torch": "x", "fused_rank": "x", "commit": "x"})
    row = gpu_results.Row("hard-4096×512", 4096, 512, "bf16", products=1, ceiling_flops=600e12)
    device = FakeInstrument()
    row.results = [gpu_results.Result(OURS)]
    costs = {gpu.CEILING: 0.002, OURS: 0.004}
    steps = {name: device.step(name, cost) for name, cost in costs.items()}
    gpu._time(row, steps, costs, device, budget=1.0)
    # 2 · 4096² · 512 = 17.18 GFLOP: 8.59 TFLOP/s in 2 ms, and half of that, one product in 4 ms
    assert row.ceiling_flops == pytest.approx(8.59e12, rel=1e-3)
    assert row.results[0].flops == pytest.approx(4.295e12, rel=1e-3)
    run.rows.append(row)
    assert "| 4 / 4 / 4 | 1.00 | 4.29 | 50 |" in gpu_table.page(run)


def test_cases_cover_every_loss_and_name_known_contenders() -> None:
    chosen = gpu.cases(quick=False, full=True)
    assert len(chosen) == len(gpu.LOSSES) * len(gpu.SHAPES)
    assert len({case.name for case in chosen}) == len(chosen)
    assert all(set(case.baselines) <= set(LABELS) for case in chosen)
    assert all(case.options.get("mining", case.loss) in gpu.PRODUCTS for case in chosen)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The command line as if the CPU were a GPU; where its results go."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "_here", lambda: (CPU, WallClock()))
    small = [Case("hard-48×16", "triplet", 48, 16, "early", {"mining": "hard"})]
    monkeypatch.setattr(gpu, "cases", lambda quick, full: small)
    monkeypatch.setattr(
        sys, "argv", ["bench", "--device", "cuda", "--quick", "--out", str(tmp_path / "results")]
    )
    return tmp_path / "results"


def test_command_writes_both_files(pretended: Path) -> None:
    assert __main__.main() == 0
    assert json.loads((pretended / "gpu.json").read_text())["rows"][1]["dtype"] == "bf16"
    assert "| hard-48×16 | fp32 | fused_rank" in (pretended / "gpu.md").read_text(encoding="utf-8")


def test_command_fails_where_ours_does(pretended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Training) -> None:
        if self.name == OURS:
            raise RuntimeError("no kernel image")

    monkeypatch.setattr(Training, "__call__", broken)
    assert __main__.main() == 1
    assert "no kernel image" in (pretended / "gpu.md").read_text(encoding="utf-8")


def test_command_knows_its_cases(pretended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.argv += ["--case", "nothing"]
    assert __main__.main() == 2
    assert "rll-query" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_stops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--device", "cuda"])
    assert __main__.main() == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "torch.cuda.is_available() is False" in shown.err

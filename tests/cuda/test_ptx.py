"""The CUDA kernels as nvcc compiled them, executed on the CPU: right against fp64.

nvcc 13 writes one text for the architectures before 10.0 and another, of a newer compiler, for those from there on.
"""

from __future__ import annotations

import re

import pytest
import torch

from ..conftest import EMULATED, emulated_kernels
from ..cuda_emulation import build
from ..gpu.ptx_cases import Shape
from . import cases, compiling, counters, executed
from .cases import SETTINGS, errors
from .gpus import GPUS
from .launched_ptx import launching, symbols, watching

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EMULATED, reason="CUDA kernels are not emulated here: no compiler, or a GPU"),
    pytest.mark.skipif(isinstance(compiling.nvcc(), str), reason=str(compiling.nvcc())),
]
RECORD = counters.load()
same_release = pytest.mark.skipif(
    compiling.release() != RECORD.nvcc, reason=f"recorded with nvcc {RECORD.nvcc}: others write other texts"
)
# a tile in fp32, with its ragged edge; four tiles in fp64
SMALL = {torch.float32: Shape(70, 75, 20), torch.float64: Shape(67, 70, 10)}
EARLIER, LATER = ("sm_80", "sm_86", "sm_89", "sm_90"), ("sm_100", "sm_120")
RUNS = {
    "sm_80": (
        "ranked_list streamed",
        "contrastive",
        "fp64 contrastive",
        "inputs, inner products",
        "collapsed contrastive",
        "fp64 collapsed contrastive",
        "triplet hard",
        "triplet semihard",
        "fp64 triplet semihard",
        "triplet all",
        "fp64 triplet all",
        "soft margin, all",
        "triplet band",
        "fp64 mine_hard",
        "topk many",
        "fp64 topk",
        "listed pairs",
    ),
    "sm_120": (
        "ranked_list streamed",
        "fp64 contrastive",
        "collapsed contrastive",
        "triplet hard",
        "triplet semihard",
        "triplet all",
        "triplet band",
        "topk many",
        "listed pairs",
    ),
}


@pytest.mark.parametrize(("target", "name"), [(target, name) for target in RUNS for name in RUNS[target]])
def test_compiled_kernels_agree_with_fp64(target, name, monkeypatch):
    monkeypatch.setattr(cases, "SHAPES", SMALL)
    with emulated_kernels(0), launching(GPUS[target]) as launcher:
        from fused_rank.cuda import ops

        assert not errors(SETTINGS[name], ops)
    assert launcher.launched, "no kernel was launched"


def kinds(kernels: set[str]) -> set[tuple[str, ...]]:
    """("topk_kernel", "float"): without the terms of pair losses."""
    return {tuple(re.split("[<,>]", kernel)[:2]) for kernel in kernels}


def test_these_runs_launch_every_kernel(monkeypatch):
    """In each type on the first target, in one on the other."""
    monkeypatch.setattr(cases, "SHAPES", SMALL)
    launched = {}
    for target, names in RUNS.items():
        with emulated_kernels(0), watching() as launched[target]:
            from fused_rank.cuda import ops

            for name in names:
                errors(SETTINGS[name], ops)
    every = kinds(set(symbols(build.module()).values()))
    assert kinds(launched["sm_80"]) == every
    assert {name for name, *_ in kinds(launched["sm_120"])} == {name for name, *_ in every}


@same_release
def test_what_is_executed_is_what_was_recorded():
    found = executed.measure(["sm_80"], ["topk many"], seen=lambda text: None)
    assert found
    for kernel, counts in found.items():
        grown = {
            name: (RECORD.executed[kernel][name], count)
            for name, count in counts.items()
            if count > 1.05 * RECORD.executed[kernel][name]
        }
        assert not grown, f"{kernel}: {grown}; if it must be, make gates CUDA_GATES_ARGS=--executed"


NAME = re.compile(
    r"\d*_(?:GLOBAL__N_|INTERNAL)_[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}_\d+"
)  # of one compilation


@same_release
@pytest.mark.parametrize("name", ["semihard.cu", "topk.cu"])
def test_the_other_targets_have_the_same_text(name):
    (path,) = (path for path in compiling.sources() if path.name == name)

    def text(target: str) -> str:
        return NAME.sub("", compiling.ptx(path, GPUS[target]).replace(f".target {target}", ""))

    for family in (EARLIER, LATER):
        assert len({text(target) for target in family}) == 1
    assert {*EARLIER, *LATER} == set(GPUS)

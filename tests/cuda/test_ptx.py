"""The CUDA kernels as nvcc compiled them, executed on the CPU: right against fp64."""

from __future__ import annotations

import pytest
import torch

from ..conftest import EMULATED, emulated_kernels
from ..gpu.ptx_cases import Shape
from . import cases, compiling
from .cases import SETTINGS, errors
from .gpus import GPUS
from .launched_ptx import launching

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EMULATED, reason="CUDA kernels are not emulated here: no compiler, or a GPU"),
    pytest.mark.skipif(isinstance(compiling.nvcc(), str), reason=str(compiling.nvcc())),
]
# a tile in fp32, with its ragged edge; four tiles in fp64
SMALL = {torch.float32: Shape(70, 75, 20), torch.float64: Shape(67, 70, 10)}
RUNS = [
    "ranked_list streamed",
    "contrastive",
    "fp64 contrastive",
    "collapsed contrastive",
    "triplet hard",
    "triplet semihard",
    "triplet all",
    "triplet band",
    "fp64 mine_hard",
    "topk many",
    "listed pairs",
]


@pytest.mark.parametrize("name", RUNS)
def test_compiled_kernels_agree_with_fp64(name, monkeypatch):
    monkeypatch.setattr(cases, "SHAPES", SMALL)
    with emulated_kernels(0), launching(GPUS["sm_80"]) as launcher:
        from fused_rank.cuda import ops

        assert not errors(SETTINGS[name], ops)
    assert launcher.launched, "no kernel was launched"

"""The tests of fused_rank; helpers are imported relatively.

Without a GPU, Triton kernels run in Triton's interpreter. It has to be chosen before anything imports triton, and
holds for the process: what needs Triton's compiler runs in a process of its own without the variable. CUDA kernels run
in an emulation (`cuda_emulation/`), chosen as early and compiled by the first test that needs it.
"""

import os

import torch

from .cuda_emulation import build

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if build.available():
        os.environ.setdefault("FUSED_RANK_CUDA_EMULATED", str(build.MODULE))

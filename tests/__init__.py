"""The tests of fused_rank; helpers are imported relatively.

Without a GPU, Triton kernels run in Triton's interpreter. It has to be chosen before anything imports triton, and
holds for the process: what needs Triton's compiler runs in a process of its own without the variable.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

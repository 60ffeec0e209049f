"""Compiled PTX, from Triton or nvcc, executed on the CPU and checked as it runs.

Covers what the kernels here use up to sm_90: mma.sync, wgmma, ldmatrix, cp.async, shuffles and atomics. It does not
model TMA, mbarriers, tcgen05, fp8, time, or weak memory order.
"""

from .formats import PTXError
from .machine import Machine
from .parser import Kernel, parse

__all__ = ["Kernel", "Machine", "PTXError", "parse"]

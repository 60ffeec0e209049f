"""Counts per pair from running nvcc's PTX in the emulator: the same on every run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from unittest import mock

import torch

from ..conftest import emulated_kernels
from ..gpu.aot.executed import SHAPE, per_pair
from ..gpu.ptx_cases import Shape
from . import cases
from .cases import SETTINGS, errors
from .gpus import GPUS
from .launched_ptx import launching

# One of each text that nvcc writes, see test_ptx.py.
TARGETS = ("sm_80", "sm_120")
NAMES = (
    "contrastive",
    "ranked_list streamed",
    "triplet hard",
    "triplet semihard",
    "triplet all",
    "topk many",
)


def measure(
    targets: Iterable[str] = TARGETS, names: Iterable[str] = NAMES, seen: Any = print
) -> dict[str, dict[str, float]]:
    """{"kernel target, case": counts per pair of the batch}; launches that walk no pairs are left out."""
    found: dict[str, dict[str, float]] = {}
    shape = dict.fromkeys((torch.float32, torch.float64), Shape(*SHAPE))
    for target in targets:
        for name in names:
            seen(f"executing {name} for {target}")
            with (
                mock.patch.object(cases, "SHAPES", shape),
                emulated_kernels(0),
                launching(GPUS[target], profile=True) as launcher,
            ):
                from fused_rank.cuda import ops

                if wrong := errors(SETTINGS[name], ops):
                    raise RuntimeError(f"{name} for {target}: {wrong}")
            for kernel, counts in sorted(launcher.counts.items()):
                if summary := per_pair(counts):
                    del summary["tensor-core instructions"], summary["sector bytes per byte"]  # none; scalars
                    found[f"`{kernel}` {target}, {name}"] = summary
    return found

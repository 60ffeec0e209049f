"""The Triton operators allocate no B×B tensor, nor B×P for large classes: the largest tensor of a training step.

Launches are listed instead of run, so 16384 rows cost nothing. What kernels keep on chip, the gates look at.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

LIMIT_MIB = 65  # B×B in fp32 takes 1024 MiB; a strip of distances 32, its keys for a long top-k 64

SCRIPT = """
from contextlib import suppress
from itertools import chain

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fused_rank.triton import ops, shipping
from fused_rank.triton.launch import recording

ROWS = 16384


class Largest(TorchDispatchMode):
    mebibytes = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.mebibytes = max(self.mebibytes, leaf.untyped_storage().nbytes() / 2**20)
        return result


def topk(k):
    with suppress(IndexError):  # nothing was found
        ops.topk(x, None, k, "euclidean", False, True)


x = torch.zeros(ROWS, 32)
small, large = torch.arange(ROWS) // 4, torch.arange(ROWS) // 4
large[:2000] = 0
given = {"small classes": (x, small, None, None), "a large class": (x, large, None, None)}
calls = chain(*(chain(shipping._pair_calls(n, g), shipping._triplet_calls(n, g)) for n, g in given.items()))
for label, call in [*calls, ("topk 10", lambda: topk(10)), ("topk 100", lambda: topk(100))]:
    with recording(), Largest() as largest:
        call()
    print(f"{largest.mebibytes:.1f} {label}")
with Largest() as largest:
    torch.cdist(x[:4096], x[:4096])
print(f"{largest.mebibytes:.1f} cdist")
"""


def test_no_tensor_is_larger_than_a_strip() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=300
    )
    assert run.returncode == 0, run.stderr
    sizes = {label: float(size) for size, label in (line.split(" ", 1) for line in run.stdout.splitlines())}
    assert len(sizes) > 20
    assert sizes.pop("cdist") == 64, "the measurement sees a distance matrix of 4096 rows"
    assert {label: size for label, size in sizes.items() if size > LIMIT_MIB} == {}

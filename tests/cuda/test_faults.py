"""Faults seeded into the real CUDA kernels: the checks must find each, and find nothing without (test_sanitizers.py).

A row names a file, the text to change, the file that is compiled with it and the calls that are repeated.
Should a row's text no longer be there, the test says so.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

import pytest

from ..conftest import EMULATED
from ..cuda_emulation.build import CSRC
from . import replaying

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EMULATED, reason="CUDA kernels are not emulated here: no compiler, or a GPU"),
]
RACE = "data race"


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    old: str
    new: str
    compiled: str
    setting: str
    caught: str  # by what message
    variant: str = "address"


FAULTS = [
    Fault(
        "a barrier is missing",
        "tile_product.h",
        "    __syncthreads();  // slab `now` has arrived for all, and nobody reads the other any more\n",
        "",
        "distances.cu",
        "topk many",
        RACE,
        "thread",
    ),
    Fault(
        "a barrier that one thread leaves out",
        "topk.cu",
        "    __syncthreads();\n    kept.prefix |=",
        "    if (threadIdx.x != 40) __syncthreads();\n    kept.prefix |=",
        "topk.cu",
        "topk many",
        r"csrc/cuda/topk\.cu:\d+: block .* waits at a barrier",
    ),
    Fault(
        "a shared array is left through its end",
        "topk.cu",
        "counts[threadIdx.x] = 0;",
        "counts[threadIdx.x + 1] = 0;",
        "topk.cu",
        "topk many",
        "AddressSanitizer: use-after-poison",
    ),
    Fault(
        "a global array is left through its end",
        "semihard.cu",
        "io.rows[2 * anchors.size + row.anchor]",
        "io.rows[3 * anchors.size + row.anchor]",
        "semihard.cu",
        "triplet semihard",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    Fault(
        "shared memory is not initialised",
        "topk.cu",
        "  counts[threadIdx.x] = 0;\n",
        "",
        "topk.cu",
        "topk many",
        "wrong number: topk|AddressSanitizer: heap-buffer-overflow",  # the counts lead astray
    ),
    Fault(
        "an addition is not atomic",
        "warp_sums.h",
        "atomicAdd(counters + bin, step);",
        "counters[bin] += step;",
        "topk.cu",
        "topk many",
        RACE,
        "thread",
    ),
    Fault(
        "a shuffle names half of the warp",
        "warp_sums.h",
        "value += __shfl_xor_sync(kWholeWarp, value, lanes);",
        "value += __shfl_xor_sync(0xffffu, value, lanes);",
        "semihard.cu",
        "triplet semihard",
        "is not in the mask of its own warp operation",
    ),
    Fault(
        "an asynchronous copy is not waited for",
        "tile_product.h",
        "async_wait<0>();",
        "async_wait<1>();",
        "distances.cu",
        "topk many",
        "asynchronous copies that it never waited for|wrong number: distances",
    ),
    Fault(
        "an asynchronous copy is not aligned",
        "tile_product.h",
        "kPitch = along == Along::depth ? kDepth<T> + kVector<T>",
        "kPitch = along == Along::depth ? kDepth<T> + 1",
        "distances.cu",
        "topk many",
        "an address that is no multiple of 16",
    ),
    Fault(
        "two blocks write to one slot",
        "hard.cu",
        "row_slot() const { return slot(work.b); }",
        "row_slot() const { return slot(0); }",
        "hard.cu",
        "triplet hard",
        RACE,
        "thread",
    ),
    Fault(
        "the last slot is not merged",
        "hard.cu",
        "s < groups.column_groups; ++s",
        "s < groups.column_groups - 1; ++s",
        "hard.cu",
        "triplet hard",
        "wrong number: hard",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_seeded_fault_is_found(fault, tmp_path):
    csrc = tmp_path / "csrc"
    shutil.copytree(CSRC, csrc)
    file = csrc / "cuda" / fault.file
    text = file.read_text()
    assert text.count(fault.old) == 1, f"{fault.file} has {text.count(fault.old)} times: {fault.old}"
    file.write_text(text.replace(fault.old, fault.new))
    program = replaying.program(fault.variant, csrc, frozenset({fault.compiled}))
    recorded = replaying.record([fault.setting], tmp_path / "calls")
    done = replaying.replay(program, recorded, seed=1)
    assert done.returncode != 0, done.stdout
    assert re.search(fault.caught, done.stderr), done.stderr

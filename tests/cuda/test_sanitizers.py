"""The CUDA kernels on the CPU: right against fp64, and clean under AddressSanitizer, UBSan and ThreadSanitizer."""

from __future__ import annotations

import pytest

from ..conftest import EMULATED, emulated_kernels
from . import replaying
from .cases import SETTINGS, errors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EMULATED, reason="CUDA kernels are not emulated here: no compiler, or a GPU"),
]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("name", SETTINGS)
def test_results_are_right_in_any_order_of_threads(name, seed):
    with emulated_kernels(seed):
        from fused_rank.cuda import ops

        assert not errors(SETTINGS[name], ops)


# every kernel once; ThreadSanitizer takes twenty times as long
EACH_KERNEL = (
    "ranked_list streamed",
    "collapsed ranked_list",
    "inputs, inner products",
    "triplet hard",
    "triplet semihard",
    "triplet all",
    "topk many",
    "listed pairs",
)


@pytest.mark.parametrize(
    ("variant", "seed", "names"),
    [("address", 1, tuple(SETTINGS)), ("address", 2, EACH_KERNEL), ("thread", 3, EACH_KERNEL)],
    ids=["address-1", "address-2", "thread-3"],
)
def test_kernels_are_clean(variant, seed, names, tmp_path):
    """The calls of these settings, with the bits that they have without the sanitizer."""
    program = replaying.program(variant)
    done = replaying.replay(program, replaying.record(names, tmp_path / "calls"), seed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > len(names)


def test_what_runs_under_every_sanitizer_launches_every_kernel():
    from fused_rank.cuda import kernels

    kernels.reset_counts()
    with emulated_kernels(0):
        from fused_rank.cuda import ops

        entries = set(kernels._emulation().entries())
        for name in EACH_KERNEL:
            errors(SETTINGS[name], ops)
    assert set(kernels.counts()) == entries

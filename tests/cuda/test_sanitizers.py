"""The CUDA kernels on the CPU: right against fp64, and clean under AddressSanitizer, UBSan and ThreadSanitizer."""

from __future__ import annotations

import pytest

from ..conftest import EMULATED, emulated_kernels
from . import cases, replaying
from .cases import FEW_ANCHORS, SETTINGS, errors

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


# every kernel, and each way through it; ThreadSanitizer takes twenty times as long
EACH_KERNEL = (
    "ranked_list streamed",
    "collapsed ranked_list",
    "inputs, inner products",
    "triplet hard",
    "triplet semihard",
    "triplet all",
    "soft margin, all",
    "soft margin, semihard",
    "chunked classes, all",
    "chunked classes, semihard",
    "topk many",
    "listed pairs",
)


REPLAYS = {"address-1": ("address", 1, tuple(SETTINGS)), "address-2": ("address", 2, EACH_KERNEL)} | {
    f"thread-3 {name}": ("thread", 3, (name,)) for name in EACH_KERNEL
}
BY_ANCHORS = {"triplet semihard", "triplet all", "soft margin, all", "soft margin, semihard", "topk many"}


@pytest.mark.parametrize(("variant", "seed", "names"), REPLAYS.values(), ids=REPLAYS)
def test_kernels_are_clean(variant, seed, names, tmp_path, monkeypatch):
    """The calls of these settings, with the bits that they have without the sanitizer."""
    if variant == "thread" and BY_ANCHORS.issuperset(names):
        monkeypatch.setattr(cases, "SHAPES", FEW_ANCHORS)
    program = replaying.program(variant)
    done = replaying.replay(program, replaying.record(names, tmp_path / "calls"), seed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= len(names)


def test_what_runs_under_every_sanitizer_launches_every_kernel():
    from fused_rank.cuda import kernels

    kernels.reset_counts()
    with emulated_kernels(0):
        from fused_rank.cuda import ops

        entries = set(kernels._emulation().entries())
        for name in EACH_KERNEL:
            errors(SETTINGS[name], ops)
    assert set(kernels.counts()) == entries

"""No B×B tensor anywhere: the peak of a training step, in a process of its own, stays far below one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .conftest import Backend

LIMIT_MIB = 100  # one fp32 B×B tensor takes 1024 MiB at 16384 rows, 256 at 8192, 144 at 6144

# Not ru_maxrss: a process starts with that of the one that made it, and a large one would hide what is measured.
STEP = """
import torch, fused_rank

def peak():  # MiB
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024

def step(rows, largest):
    labels = torch.arange(rows) // 4
    labels[:largest] = 0
    x = torch.randn(rows, 32, requires_grad=True)
    {call}
    assert value.isfinite() and (x.grad is None or x.grad.isfinite().all())

torch.set_num_threads(2)
with fused_rank.use_backend({backend!r}):
    step(256, 20)  # libraries, thread pools
    before = peak()
    step({rows}, 2000)
print(peak() - before)
"""
TRAIN = "value = fused_rank.{}(x, labels); value.backward()"
CALLS = {
    "ranked list, query": TRAIN.format("RankedListLoss()"),
    "ranked list, both": TRAIN.format("RankedListLoss(gradient='both')"),
    "ranked list, exact": TRAIN.format("RankedListLoss(gradient='exact', temperature_pos=5.0)"),
    "contrastive": TRAIN.format("ContrastiveLoss()"),
    **{
        f"triplet, {mining}": TRAIN.format(f"TripletMarginLoss(mining='{mining}')")
        for mining in ("semihard", "hard", "all", "semihard_all")
    },
    "angular, every pair": TRAIN.format("AngularLoss(pairs='all')"),
    "triplet, two spaces": "value = fused_rank.TripletMarginLoss(symmetric=True, exclude_closer_than=0.9)("
    "x, gallery=x.detach().roll(1, 0), mining_embeddings=torch.randn(rows, 16)); value.backward()",
    "topk": "value = fused_rank.retrieval.topk(x.detach(), x.detach(), 10).values.sum()",
    "mining.hard": "value = fused_rank.mining.hard(x.detach(), labels).negative.sum()",
    "mining.partners": "value = fused_rank.mining.partners(x.detach(), labels, negative='semihard').negative.sum()",
    "mining.triplet_stats": "value = torch.tensor(fused_rank.mining.triplet_stats(x, labels).active)",
    "evaluate": "value = torch.tensor(fused_rank.retrieval.evaluate(x, labels).mrr)",
    "embedding_health": "value = torch.tensor(fused_rank.diagnostics.embedding_health(x, labels).spread)",
}
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peaks are read where Linux keeps them"
)


def extra_peak(call: str, backend: str, rows: int) -> float:
    script = textwrap.dedent(STEP).format(call=call, backend=backend, rows=rows)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return float(run.stdout)


# work for each positive pair
RANKED = (
    "angular, every pair",
    "triplet, semihard",
    "triplet, all",
    "triplet, semihard_all",
    "triplet, two spaces",
)


@pytest.mark.parametrize("call", CALLS)
def test_peak_memory_of_a_training_step(call: str, backend: Backend) -> None:
    if backend.name == "eager" and call not in ("ranked list, query", "triplet, semihard", "topk"):
        pytest.skip("slow, and chunked like the others")
    if backend.interpreted:
        pytest.skip("interpreted kernels have the interpreter's memory: gpu/test_largest_tensor.py instead")
    rows = 6144 if backend.name == "eager" else 8192 if call in RANKED else 16384
    assert extra_peak(CALLS[call], backend.name, rows) < LIMIT_MIB


def test_the_measurement_sees_a_distance_matrix() -> None:
    """4096 rows, a sixteenth of the matrix: torch.cdist keeps 64 MiB, and more in backward."""
    dense = "value = torch.cdist(x, x).square().mean(); value.backward()"
    assert extra_peak(dense, "eager", 4096) > 64

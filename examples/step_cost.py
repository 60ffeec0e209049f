"""Seconds and extra memory of one training step of a loss, each measured in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import fused_rank

TEMPERATURE, MARGIN = 0.05, 0.2


@dataclass(frozen=True)
class Cost:
    """`peak` in bytes beyond what the process held before; None where the step did not fit."""

    seconds: float
    peak: int | None


def eager_n_pairs(queries: Tensor, gallery: Tensor) -> Tensor:
    """In-batch softmax both ways, as most training scripts have it."""
    queries, gallery = (torch.nn.functional.normalize(x) for x in (queries, gallery))
    logits = queries @ gallery.T / TEMPERATURE
    target = torch.arange(len(logits))
    entropy = torch.nn.functional.cross_entropy
    return (entropy(logits, target) + entropy(logits.T, target)) / 2


def eager_triplets(queries: Tensor, gallery: Tensor) -> Tensor:
    """pytorch-metric-learning over every triplet of the batch."""
    from pytorch_metric_learning.losses import TripletMarginLoss

    labels = torch.arange(len(queries))
    value: Tensor = TripletMarginLoss(margin=MARGIN)(
        queries, labels, ref_emb=gallery, ref_labels=labels.clone()
    )
    return value


def fused_n_pairs(queries: Tensor, gallery: Tensor) -> Tensor:
    return fused_rank.InfoNCELoss(temperature=TEMPERATURE, symmetric=True)(queries, gallery=gallery)


def fused_triplets(queries: Tensor, gallery: Tensor) -> Tensor:
    return fused_rank.TripletMarginLoss(MARGIN, "all")(queries, gallery=gallery)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    function.__name__: function for function in (eager_n_pairs, fused_n_pairs, eager_triplets, fused_triplets)
}


def measure(loss: str, rows: int, width: int, *, limit: int) -> Cost:
    """The cost of one forward and backward on random rows; refused beyond `limit` bytes of address space."""
    command = [sys.executable, __file__, loss, str(rows), str(width), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Cost(0.0, None)
    seconds, peak = done.stdout.split()
    return Cost(float(seconds), int(peak))


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _here(loss: str, rows: int, width: int, limit: int) -> None:
    import resource

    function = LOSSES[loss]
    for count in (64, rows):  # the first, small one loads code and starts threads
        queries, gallery = (torch.randn(count, width, requires_grad=True) for _ in range(2))
        if count == rows:
            ceiling = _status("VmSize") + limit
            resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark, see proc(5)
        before, start = _status("VmRSS"), time.perf_counter()
        function(queries, gallery).backward()
        seconds, peak = time.perf_counter() - start, _status("VmHWM") - before
    print(seconds, peak)


if __name__ == "__main__":
    _here(sys.argv[1], *map(int, sys.argv[2:5]))

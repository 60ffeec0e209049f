"""Triton kernels really run for every operation asked of the backend, and triton is imported only for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fused_rank
from fused_rank import diagnostics, functional, mining, retrieval

from ..conftest import INTERPRETED, Backend
from ..test_packaging import checked, python
from .kernel_names import kernel_names

on_triton = pytest.mark.parametrize("backend", ["triton"], indirect=True)
Call = Callable[[Tensor, Tensor], Any]


def triplets(x: Tensor, labels: Tensor) -> Tensor:
    """Explicit ones, mined outside."""
    anchor = torch.arange(8, device=x.device)
    return fused_rank.TripletMarginLoss()(x, triplets=(anchor, anchor ^ 1, 15 - anchor))


NEAR = {"near_statistics_kernel", "near_gradient_kernel"}
PAIR_SWEEPS = {"statistics_kernel", "finish_kernel", "scale_kernel", "gradient_kernel", *NEAR}
CALLS: dict[str, tuple[Call, set[str]]] = {
    "ranked list, query": (
        lambda x, labels: fused_rank.RankedListLoss()(x, labels),
        {"one_pass_kernel", "finish_kernel", "scale_kernel", *NEAR},
    ),
    "ranked list, exact": (
        lambda x, labels: fused_rank.RankedListLoss(gradient="exact")(x, labels),
        PAIR_SWEEPS,
    ),
    "contrastive": (lambda x, labels: fused_rank.ContrastiveLoss()(x, labels), PAIR_SWEEPS),
    "contrastive, wide rows": (
        lambda x, labels: fused_rank.ContrastiveLoss()(x.repeat(1, 17), labels),
        {*PAIR_SWEEPS, "coefficient_kernel", "strip_pull_kernel"} - {"gradient_kernel"},
    ),
    "contrastive, enough rows for clusters": (
        lambda x, labels: fused_rank.ContrastiveLoss()(x.repeat(6, 1), labels.repeat(6)),
        {*PAIR_SWEEPS, "centre_kernel", "local_kernel"},
    ),
    "triplet, semihard": (
        lambda x, labels: fused_rank.TripletMarginLoss()(x, labels),
        {"strip_kernel", "semihard_kernel", "listed_square_kernel", "edge_sum_kernel"},
    ),
    "triplet, hard": (
        lambda x, labels: fused_rank.TripletMarginLoss(mining="hard")(x, labels),
        {"hard_kernel", "listed_square_kernel", "edge_sum_kernel"},
    ),
    "triplet, all": (
        lambda x, labels: fused_rank.TripletMarginLoss(mining="all")(x, labels),
        {"strip_kernel", "all_forward_kernel", "all_backward_kernel", "strip_pull_kernel"},
    ),
    "triplet, band": (
        lambda x, labels: fused_rank.TripletMarginLoss(mining="semihard_all")(x, labels),
        {"strip_kernel", "all_forward_kernel", "all_backward_kernel", "strip_pull_kernel"},
    ),
    "triplet, explicit": (triplets, {"listed_square_kernel", "edge_sum_kernel"}),
    "paired distance": (
        lambda x, _: functional.paired_distance(x, x.detach().flip(0)).sum(),
        {"listed_square_kernel", "edge_sum_kernel"},
    ),
    "mining.hard": (lambda x, labels: mining.hard(x.detach(), labels), {"hard_kernel"}),
    "mining.semihard": (
        lambda x, labels: mining.semihard(x.detach(), labels),
        {"strip_kernel", "semihard_kernel"},
    ),
    "mining.partners": (lambda x, labels: mining.partners(x, labels), {"strip_kernel"}),
    "mining.distance_weighted": (lambda x, labels: mining.distance_weighted(x, labels), {"strip_kernel"}),
    "mining.triplet_stats": (lambda x, labels: mining.triplet_stats(x, labels), {"strip_kernel"}),
    "evaluate": (lambda x, labels: retrieval.evaluate(x, labels), {"strip_kernel"}),
    "embedding_health": (
        lambda x, labels: diagnostics.embedding_health(x, labels, warn=False),
        {"strip_kernel"},
    ),
    "topk": (lambda x, _: retrieval.topk(x.detach(), None, 3), {"strip_kernel", "topk_kernel"}),
    "topk, large k": (
        lambda x, _: retrieval.topk(x.detach(), x.detach(), 40),
        {"strip_kernel", "key_kernel"},
    ),
}


def launched(call: Call, device: str) -> set[str]:
    """The kernels that run for a call and its backward pass."""
    from fused_rank.triton import launch

    x = torch.randn(48, 8, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    labels = (torch.arange(48) // 4).to(device)
    launch.reset_counts()
    value = call(x, labels)
    if isinstance(value, Tensor):
        value.backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
    return set(launch.counts())


@on_triton
@pytest.mark.parametrize("name", CALLS)
def test_every_operation_launches_its_kernels(name: str, backend: Backend) -> None:
    call, kernels = CALLS[name]
    assert launched(call, backend.device) == kernels


@on_triton
def test_every_kernel_is_launched_by_some_operation(backend: Backend) -> None:
    assert kernel_names() == set().union(*(kernels for _, kernels in CALLS.values()))


@on_triton
def test_cpu_tensors_go_to_triton_only_by_name(backend: Backend) -> None:
    if backend.device != "cpu":
        pytest.skip("kernels are compiled here, not interpreted")
    with fused_rank.use_backend(None):
        assert launched(CALLS["contrastive"][0], "cpu") == set()


@on_triton
def test_fp64_is_refused_by_name_with_the_reason(backend: Backend) -> None:
    x = torch.randn(8, 3, dtype=torch.float64, device=backend.device)
    with pytest.raises(RuntimeError, match=r"'triton' cannot serve contrastive_loss: .*float32, not float64"):
        fused_rank.ContrastiveLoss()(x, torch.arange(8, device=x.device) // 2)


NO_TRITON = "assert not [name for name in sys.modules if name.partition('.')[0] == 'triton']"


@pytest.mark.parametrize("interpret", ["0", "1"])
def test_import_and_info_import_no_triton(interpret: str) -> None:
    code = f"""
import sys, fused_rank
from fused_rank.__main__ import info
fused_rank.backends(), info()
{NO_TRITON}
import torch
fused_rank.ContrastiveLoss()(torch.randn(8, 3, requires_grad=True), torch.arange(8) // 2).backward()
{NO_TRITON}
"""
    checked("-W", "error::UserWarning", "-c", code, TRITON_INTERPRET=interpret)


MISSING = "import sys; sys.modules['triton'] = None"
OLD = """
from importlib import metadata
version = metadata.version
metadata.version = lambda name: "3.3.1" if name == "triton" else version(name)
"""


@pytest.mark.parametrize(
    ("setup", "reason"),
    [(MISSING, "triton is not installed"), (OLD, "triton 3.3.1 is too old, 3.4 or later is needed")],
    ids=["missing", "old"],
)
def test_without_a_usable_triton_the_reason_is_told(setup: str, reason: str) -> None:
    if setup == OLD:
        pytest.importorskip("triton")
    code = f"""
{setup}
import fused_rank
from fused_rank.__main__ import info
print(fused_rank.backends()["retrieval.topk"]["triton"], info(), sep="\\n---\\n")
"""
    told, _, report = checked("-c", code).partition("\n---\n")
    assert reason in told
    assert f"triton: {told}" in report
    run = python("-c", f"{setup}\nimport fused_rank; fused_rank.use_backend('triton')")
    assert run.returncode != 0
    assert f"RuntimeError: backend 'triton' cannot serve: {reason}" in run.stderr


@pytest.mark.skipif(not INTERPRETED, reason="a GPU is there")
def test_without_a_gpu_the_reason_is_told() -> None:
    code = "import fused_rank; print(fused_rank.backends()['retrieval.topk']['triton'])"
    assert "no CUDA or ROCm device" in checked("-c", code, TRITON_INTERPRET="0")

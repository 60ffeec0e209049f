"""What only a GPU can show: `pytest -m gpu`. The conformance suite's `triton` and `cuda` cases run there as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import fused_rank
from fused_rank import functional, mining, retrieval

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]
LOSSES: dict[str, Callable[..., Tensor]] = {
    "query": functional.ranked_list_loss,
    "exact": lambda x, labels, **kw: functional.ranked_list_loss(x, labels, gradient="exact", **kw),
    "contrastive": functional.contrastive_loss,
    "hard": lambda x, labels, **kw: functional.triplet_margin_loss(x, labels, mining="hard", **kw),
    "semihard": functional.triplet_margin_loss,
    "all": lambda x, labels, **kw: functional.triplet_margin_loss(x, labels, mining="all", **kw),
    "band": lambda x, labels, **kw: functional.triplet_margin_loss(x, labels, mining="semihard_all", **kw),
}


@pytest.fixture(autouse=True, params=["triton", "cuda"])
def gpu_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    reason = fused_rank.backends()["ranked_list_loss"][request.param]
    if reason is not None:
        pytest.skip(f"backend {request.param} cannot serve: {reason}")
    with fused_rank.use_backend(request.param):
        yield request.param


def batch(rows: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Classes of four rows around a common direction, half of the negatives near."""
    generator = torch.Generator().manual_seed(rows + width)
    labels = torch.randperm(rows, generator=generator) // 4
    common, centres, noise = (
        torch.randn(count, width, generator=generator) / width**0.5 for count in (1, rows // 4 + 1, rows)
    )
    x = (common + 0.6 * centres[labels] + 0.8 * noise).to("cuda", dtype)
    return x.requires_grad_(), labels.cuda()


def step(loss: Callable[..., Tensor], x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(x, labels)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_same_bits_every_time(name: str, dtype: torch.dtype, gpu_backend: str) -> None:
    if dtype == torch.float64 and gpu_backend == "triton":
        pytest.skip("triton does not serve float64")
    x, labels = batch(1500, 200, dtype)
    first, others = step(LOSSES[name], x, labels), [step(LOSSES[name], x, labels) for _ in range(5)]
    for value, gradient in others:
        assert torch.equal(value, first[0])
        assert torch.equal(gradient, first[1])


@pytest.mark.parametrize("name", LOSSES)
def test_large_batches_agree_with_eager(name: str) -> None:
    x, labels = batch(8192, 256)
    value, gradient = step(LOSSES[name], x, labels)
    with fused_rank.use_backend("eager"):
        expected, expected_gradient = step(LOSSES[name], x, labels)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    # Where thousands of negatives lie close together, one mined choice in a hundred may differ, and is another triplet.
    allowed = {"hard": 0.1, "semihard": 0.3}.get(name, 1e-3)
    assert (gradient - expected_gradient).norm() < allowed * expected_gradient.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_memory_is_that_of_the_batch(name: str) -> None:
    x, labels = batch(32768, 128)  # 16 MiB, where one B×B matrix is 4 GiB
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(LOSSES[name], x, labels)
    assert torch.cuda.max_memory_allocated() - before < 512 * 2**20


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("hard", "semihard")])
def test_no_step_waits_for_the_gpu(name: str) -> None:
    """The backward pass of mined losses does, to learn how many triplets there are."""
    x, labels = batch(1024, 64)
    step(LOSSES[name], x, labels)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(LOSSES[name], x, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", LOSSES)
def test_another_stream_is_respected(name: str) -> None:
    x, labels = batch(1024, 64)
    expected = step(LOSSES[name], x, labels)
    torch.cuda.synchronize()
    stream, delayed = torch.cuda.Stream(), torch.empty_like(x)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # what runs outside this stream runs before the copy
        delayed.copy_(x.detach())
        value, gradient = step(LOSSES[name], delayed.requires_grad_(), labels)
    stream.synchronize()
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient, expected[1])


def test_ties_go_to_the_lowest_index() -> None:
    x = torch.randn(64, 40, device="cuda").repeat(8, 1)
    labels = (torch.arange(512, device="cuda") % 64) // 4
    row = torch.arange(512, device="cuda")
    copies = row[:, None] % 64 + 64 * torch.arange(8, device="cuda")
    others = copies[copies != row[:, None]].reshape(512, 7)
    assert torch.equal(retrieval.topk(x, None, 7, exclude_self=True).indices, others)
    found = mining.hard(x, labels)
    assert (found.positive < 64).all()
    assert (found.negative < 64).all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_the_second_gpu_is_used_for_its_tensors() -> None:
    x, labels = batch(512, 64)
    expected = step(LOSSES["exact"], x, labels)
    there = x.detach().to("cuda:1").requires_grad_()
    value, gradient = step(LOSSES["exact"], there, labels.to("cuda:1"))
    assert gradient.device == torch.device("cuda:1")
    torch.testing.assert_close(value.cpu(), expected[0].cpu())
    torch.testing.assert_close(gradient.cpu(), expected[1].cpu())

"""Two sides of two dtypes, as towers under autocast with one frozen in fp32: the loss of both in the wider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fused_rank import InfoNCELoss, functional, mining, retrieval
from fused_rank.batches import EmbeddingMemory

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import MAIN_CASES, Loss, Options, case_id, moves_gallery

DTYPES = [
    (torch.bfloat16, torch.float32, torch.float32),
    (torch.float32, torch.float16, torch.float32),
    (torch.bfloat16, torch.float16, torch.float32),
    (torch.float32, torch.float64, torch.float64),
]
every_pair = pytest.mark.parametrize("dtypes", DTYPES, ids=lambda d: " ".join(str(one)[6:] for one in d[:2]))
Dtypes = tuple[torch.dtype, torch.dtype, torch.dtype]


def two_sets(dtypes: Dtypes, backend: Backend, generator: torch.Generator) -> tuple[Inputs, Inputs]:
    """In two dtypes, and the same numbers in the wider."""
    if backend.name == "triton" and torch.float64 in dtypes:
        pytest.skip("Triton has no fp64")
    given = make_inputs("two-set", 24, 40, 8, torch.float64, generator).to(backend.device)
    assert given.gallery is not None
    given = replace(given, embeddings=given.embeddings.to(dtypes[0]), gallery=given.gallery.to(dtypes[1]))
    return given, given.leaves(dtypes[2], needs=(False, False))


@every_pair
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_losses(
    case: tuple[Loss, Options], dtypes: Dtypes, backend: Backend, generator: torch.Generator
) -> None:
    """The same number as in one dtype, and each side's gradient rounded to its own."""
    loss, options = case
    given, wide = two_sets(dtypes, backend, generator)
    needs = (True, moves_gallery(options, loss))
    given, wide = given.leaves(needs=needs), wide.leaves(needs=needs)
    value, expected = loss(given, **options), loss(wide, **options)
    assert torch.equal(value, expected)
    assert value.dtype == expected.dtype
    value.backward()
    expected.backward()
    for own, other in zip(given.tensors, wide.tensors, strict=True):
        if own.requires_grad:
            assert own.grad is not None
            assert other.grad is not None
            assert own.grad.dtype == own.dtype
            assert torch.equal(own.grad, other.grad.to(own.dtype))


@every_pair
def test_miners_and_retrieval(dtypes: Dtypes, backend: Backend, generator: torch.Generator) -> None:
    given, wide = two_sets(dtypes, backend, generator)

    def everything(x: Inputs) -> Iterator[Tensor]:
        labels = {"gallery": x.gallery, "gallery_labels": x.gallery_labels}
        assert x.labels is not None
        for find in (mining.hard, mining.semihard, mining.partners):
            yield from find(x.embeddings, x.labels, **labels)  # type: ignore[operator]
        yield torch.tensor(mining.triplet_stats(x.embeddings, x.labels, **labels))
        yield from mining.offline(
            x.embeddings,
            x.labels,
            x.gallery,
            x.gallery_labels,
            chunk=16,
            progress=False,  # type: ignore[arg-type]
        )
        yield from retrieval.topk(x.embeddings, x.gallery, 3)
        found = retrieval.evaluate(x.embeddings, x.labels, x.gallery, x.gallery_labels)
        yield torch.tensor([found.average_precision, found.mrr])
        assert x.gallery is not None
        yield functional.pairwise_distance(x.embeddings, x.gallery)
        yield functional.paired_distance(x.embeddings, x.gallery[:24])
        i = torch.arange(24, device=x.embeddings.device)
        yield functional.triplet_margin_loss(x.embeddings, gallery=x.gallery, triplets=(i, i, i + 1))
        yield functional.contrastive_loss(x.embeddings, gallery=x.gallery, pairs=(i, i, i > 3))

    for own, other in zip(everything(given), everything(wide), strict=True):
        assert own.dtype == other.dtype
        assert torch.equal(own, other)


def test_arrays_of_two_dtypes() -> None:
    x = np.random.default_rng(0).standard_normal((20, 4), dtype=np.float32)
    y, labels = x.astype(np.float16), np.arange(20) // 4
    found = mining.offline(x, labels, y, labels, progress=False)
    wide = mining.offline(x, labels, y.astype(np.float32), labels, progress=False)
    assert all(torch.equal(own, other) for own, other in zip(found, wide, strict=True))


@pytest.mark.parametrize("frozen", [False, True], ids=["both train", "one frozen"])
@pytest.mark.parametrize("learned", [False, True], ids=["fixed T", "learned T"])
def test_towers_under_autocast(
    frozen: bool, learned: bool, backend: Backend, generator: torch.Generator
) -> None:
    """One tower under autocast, embeddings of the other from a cache in fp32."""
    tower = torch.nn.Linear(8, 8).to(backend.device)
    x = torch.randn(16, 8, generator=generator).to(backend.device)
    cached = torch.randn(16, 8, generator=generator).to(backend.device).requires_grad_(not frozen)
    loss_fn = InfoNCELoss(symmetric=True, learn_temperature=learned).to(backend.device)
    with torch.autocast(backend.device, dtype=torch.bfloat16):
        own = tower(x)
        value = loss_fn(own, gallery=cached)
    assert (own.dtype, cached.dtype, value.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    value.backward()
    assert tower.weight.grad is not None
    assert tower.weight.grad.any()
    assert (cached.grad is None) == frozen


def test_compiled(backend: Backend, generator: torch.Generator) -> None:
    """In one graph."""
    x = torch.randn(16, 8, generator=generator).to(backend.device, torch.bfloat16)
    y = torch.randn(16, 8, generator=generator).to(backend.device)

    def step(x: Tensor, y: Tensor) -> Tensor:
        return functional.info_nce_loss(x, gallery=y, symmetric=True)

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y), step(x, y))
    torch.compiler.reset()


def test_memory_of_another_dtype(backend: Backend, generator: torch.Generator) -> None:
    """fp32 batches first, then a run under autocast."""
    memory = EmbeddingMemory(32)
    x = torch.randn(16, 8, generator=generator).to(backend.device)
    labels = torch.arange(16, device=backend.device) // 4
    memory.add(x, labels)
    low = x.bfloat16().requires_grad_()
    loss = functional.contrastive_loss(low, labels, **memory.keywords)
    assert torch.equal(loss, functional.contrastive_loss(low.float(), labels, **memory.keywords))


def test_the_devices_may_not_differ() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="gallery: expected device cpu as embeddings has, got meta"):
        functional.info_nce_loss(x.bfloat16(), gallery=x.to("meta"))

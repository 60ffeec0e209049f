"""mining.hard and mining.semihard on random rows against exhaustive search."""

from __future__ import annotations

import pytest
import torch

from fused_rank import mining

from . import brute
from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import case_id
from .tolerances import TOLERANCES

SHAPES = [(1, 1), (2, 3), (3, 1), (64, 63), (65, 129), (128, 300), (257, 40)]
forms = pytest.mark.parametrize("form", ["self", "two-set", "plain"])
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
metrics = pytest.mark.parametrize(
    "metric", [("euclidean", False), ("sqeuclidean", True), ("cosine", True)], ids=str
)


@forms
@shapes
@metrics
def test_hard(
    form: str, shape: tuple[int, int], metric: tuple[str, bool], backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs(form, *shape, 13, torch.float64, generator)
    ours = inputs.to(backend.device)
    mined = mining.hard(ours.embeddings, ours.labels, **ours.keywords, metric=metric[0], normalize=metric[1])
    assert mined.positive.dtype == mined.negative.dtype == torch.int64
    assert (mined.positive.tolist(), mined.negative.tolist()) == brute.hard(inputs, metric[1])


@forms
@shapes
@metrics
def test_semihard(
    form: str, shape: tuple[int, int], metric: tuple[str, bool], backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs(form, *shape, 13, torch.float64, generator)
    ours = inputs.to(backend.device)
    mined = mining.semihard(
        ours.embeddings, ours.labels, **ours.keywords, metric=metric[0], normalize=metric[1]
    )
    assert all(t.dtype == torch.int64 for t in mined)
    found = list(zip(mined.anchor.tolist(), mined.positive.tolist(), mined.negative.tolist(), strict=True))
    assert found == brute.semihard(inputs, metric[1])


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
def test_low_precision_mines_the_rounded_rows(
    dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    """Choices may differ from fp64's only between distances that fp32 cannot tell apart."""
    inputs = make_inputs("self", 150, 0, 40, dtype, generator)
    d, _, _ = brute.squared(inputs, True)
    positive, negative = brute.hard(inputs, True)
    ours = inputs.to(backend.device)
    mined = mining.hard(ours.embeddings, ours.labels, normalize=True)
    for actual, expected in ((mined.positive.cpu(), positive), (mined.negative.cpu(), negative)):
        wanted = torch.tensor(expected)
        assert torch.equal(actual < 0, wanted < 0)
        found = wanted >= 0
        gap = (d[found, actual[found]] - d[found, wanted[found]]).abs()
        assert gap.max() <= TOLERANCES[dtype].gap


@pytest.mark.parametrize("sizes", [(70, 3), (300, 5), (260, 66), (1, 1, 1), (90,)], ids=str)
def test_large_and_lonely_classes(
    sizes: tuple[int, ...], backend: Backend, generator: torch.Generator
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), 6, generator=generator, dtype=torch.float64)
    inputs = Inputs(x, labels)
    ours = inputs.to(backend.device)
    mined = mining.hard(ours.embeddings, ours.labels, normalize=False)
    assert (mined.positive.tolist(), mined.negative.tolist()) == brute.hard(inputs)
    triplets = mining.semihard(ours.embeddings, ours.labels, normalize=False)
    assert list(zip(*(t.tolist() for t in triplets), strict=True)) == brute.semihard(inputs)

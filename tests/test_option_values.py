"""Numbers and flags of options: whatever is one is taken as Python's own, and nothing else is."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from fused_rank import (
    ContrastiveLoss,
    InfoNCELoss,
    MarginLoss,
    SupConLoss,
    TripletMarginLoss,
    diagnostics,
    functional,
    mining,
    retrieval,
)
from fused_rank.batches import EmbeddingMemory, PKSampler

from .losses import LOSSES, Loss, case_id

X, L = torch.rand(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) // 3

NUMBERS: dict[str, Callable[[float], object]] = {
    "np.float32": np.float32,
    "np.float64": np.float64,
    "np.float16": np.float16,
    "0-d array": np.array,
    "0-d tensor": lambda value: torch.tensor(value, dtype=torch.float64),
    "fraction": Fraction,
}
INTEGERS: dict[str, Callable[[int], object]] = {
    "np.int64": np.int64,
    "np.uint8": np.uint8,
    "0-d array": np.array,
    "0-d tensor": torch.tensor,
}


class Index:
    """Something with `__index__` and nothing else."""

    def __index__(self) -> int:
        return 2


def options(loss: Loss) -> dict[str, Any]:
    """Of the module, by name, with its defaults."""
    return {name: p.default for name, p in inspect.signature(loss.module).parameters.items()}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_every_number_of_every_loss(loss: Loss, kind: str) -> None:
    """The module keeps Python numbers, shows and pickles as with them, and the function gives the same loss."""
    plain = {name: 0.5 for name, value in options(loss).items() if type(value) is float}
    given = {name: NUMBERS[kind](value) for name, value in plain.items()}
    module = loss.module(**given)
    assert repr(module) == repr(loss.module(**plain))
    assert all(type(value) in (float, int) for name, value in vars(module).items() if name in plain)
    assert repr(pickle.loads(pickle.dumps(module))) == repr(module)
    data = {"gallery": X, "gallery_labels": L} if "self" not in loss.forms else {}
    assert torch.equal(loss.function(X, L, **data, **given), loss.function(X, L, **data, **plain))


@pytest.mark.filterwarnings("error")  # a repr reads a learned number without one
@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_every_flag_of_every_loss(loss: Loss) -> None:
    flags = {name: not value for name, value in options(loss).items() if isinstance(value, bool)}
    module = loss.module(**{name: np.bool_(value) for name, value in flags.items()})
    assert repr(module) == repr(loss.module(**flags))
    assert all(type(getattr(module, name)) is bool for name in flags)
    for name in flags:
        for wrong in (1, 0.0, np.int64(1), "yes", None, np.array([True])):
            with pytest.raises(TypeError, match=f"{name}: expected True or False, got"):
                loss.module(**{name: wrong})


@pytest.mark.parametrize("kind", INTEGERS)
def test_every_integer(kind: str) -> None:
    two = INTEGERS[kind](2)
    assert torch.equal(retrieval.topk(X, None, two).values, retrieval.topk(X, None, 2).values)
    for k in (two, [two], np.array([2]), torch.tensor([2]), range(2, 3)):
        assert retrieval.evaluate(X, L, k=k) == retrieval.evaluate(X, L, k=2)
    sampler = PKSampler(L, two, two, seed=two, num_replicas=two, rank=INTEGERS[kind](1))
    sampler.set_epoch(two)
    plain = PKSampler(L, 2, 2, seed=2, num_replicas=2, rank=1)
    plain.set_epoch(2)
    assert list(sampler) == list(plain)
    assert repr(EmbeddingMemory(two)) == "EmbeddingMemory(size=2)"
    assert repr(MarginLoss(num_classes=two)) == repr(MarginLoss(num_classes=2))
    assert repr(ContrastiveLoss(power=two)) == repr(ContrastiveLoss(power=2))
    assert len(diagnostics.embedding_health(X, L, bins=two, warn=False).positive) == 2
    assert len(mining.offline(X, L, chunk=two, progress=False).anchor) == 12


def test_anything_with_an_index() -> None:
    assert retrieval.topk(X, None, Index()).values.shape == (12, 2)  # type: ignore[arg-type]
    assert TripletMarginLoss(margin=Index()).margin == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, np.bool_(True), torch.tensor(True)], ids=["bool", "numpy", "torch"])
def test_a_flag_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match="margin: expected a number, got"):
        TripletMarginLoss(margin=value)
    with pytest.raises(TypeError, match="k: expected an integer, got"):
        retrieval.topk(X, None, value)
    with pytest.raises(TypeError, match="power: expected a number, got"):
        ContrastiveLoss(power=value)


@pytest.mark.parametrize(
    "value",
    ["0.2", None, [0.2], np.array([0.2]), torch.ones(1), 1j, np.str_("a"), torch.ones((), device="meta")],
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match="margin: expected a number, got"):
        TripletMarginLoss(margin=value)
    with pytest.raises(TypeError, match="size: expected an integer, got"):
        EmbeddingMemory(value)


def test_a_tensor_that_would_get_no_gradient() -> None:
    with pytest.raises(TypeError, match="margin: expected a number, got a tensor that requires grad"):
        TripletMarginLoss(margin=torch.ones((), requires_grad=True))  # type: ignore[arg-type]


BOUNDS: list[tuple[Callable[[Any], object], Any, str]] = [
    (lambda t: SupConLoss(t), -1, "temperature: expected a finite number > 0, got -1"),
    (lambda t: SupConLoss(t), 0, "temperature: expected a finite number > 0, got 0"),
    (lambda t: SupConLoss(t), float("inf"), "temperature: expected a finite number > 0, got inf"),
    (lambda t: InfoNCELoss(t), np.float32(-1), r"temperature: expected a finite number > 0, got -1\.0"),
    (lambda t: functional.info_nce_loss(X, gallery=X, temperature=t), torch.tensor(0.0), r"> 0, got 0\.0"),
    (lambda t: InfoNCELoss(t, learn_temperature=True), -1, r">= 0\.01 where it is learned, got -1"),
    (lambda t: InfoNCELoss(t, learn_temperature=True), 0.001, r">= 0\.01 where it is learned, got 0\.001"),
    (
        lambda a: functional.angular_loss(X, L, alpha=a),
        -1,
        "alpha: expected a finite number > 0 and < 90, got -1",
    ),
    (lambda c: mining.distance_weighted(X, L, cutoff=c), -1, "cutoff: expected a finite number > 0, got -1"),
    (lambda c: mining.distance_weighted(X, L, cutoff=c), 0, "cutoff: expected a finite number > 0, got 0"),
    (lambda b: MarginLoss(beta=b), -1, "beta: expected a finite number >= 0, got -1"),
]


@pytest.mark.parametrize(("call", "value", "message"), BOUNDS)
def test_a_bound_is_told_as_it_is(call: Callable[[Any], object], value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(value)


def test_what_a_bound_says_is_accepted() -> None:
    InfoNCELoss(0.01, learn_temperature=True)
    MarginLoss(beta=0)
    TripletMarginLoss(margin=0)


def test_compiled() -> None:
    """In one graph: a module made of numpy's numbers, which it keeps as Python's."""
    module = TripletMarginLoss(margin=np.float32(0.25), normalize=np.bool_(True))  # type: ignore[arg-type]
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X, L), module(X, L))


def test_numpy_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "import torch\n"
        "from fractions import Fraction\n"
        "from fused_rank import TripletMarginLoss\n"
        "assert TripletMarginLoss(margin=Fraction(1, 4)).margin == TripletMarginLoss(margin=torch.tensor(0.25)).margin"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr

"""Bad input raises ValueError or TypeError that names the argument, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor

import fused_rank
from fused_rank import MarginLoss, functional, mining, retrieval
from fused_rank.batches import EmbeddingMemory

from .conftest import Backend
from .losses import LOSSES, Loss, case_id

X, L = torch.rand(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
Y, LY = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
Error = type[Exception]

# What is passed, the exception, and the words its message must hold: the argument, then what came.
CALLS: dict[str, tuple[dict[str, Any], Error, list[str]]] = {
    "a vector": ({"embeddings": torch.rand(6)}, ValueError, ["embeddings", "2", "6"]),
    "a batch of matrices": ({"embeddings": torch.rand(6, 2, 2)}, ValueError, ["embeddings", "2", "6, 2, 2"]),
    "a list": ({"embeddings": [[1.0], [2.0]]}, TypeError, ["embeddings", "Tensor", "list"]),
    "integers": (
        {"embeddings": torch.ones(6, 4, dtype=torch.int64)},
        TypeError,
        ["embeddings", "float", "int64"],
    ),
    "complex": (
        {"embeddings": torch.ones(6, 4, dtype=torch.complex64)},
        TypeError,
        ["embeddings", "complex64"],
    ),
    "no rows": ({"embeddings": torch.rand(0, 4), "labels": L[:0]}, ValueError, ["embeddings", "0"]),
    "no columns": ({"embeddings": torch.rand(6, 0)}, ValueError, ["embeddings", "0"]),
    "no labels": ({"labels": None}, (ValueError, TypeError), ["labels"]),
    "float labels": ({"labels": L.float()}, TypeError, ["labels", "int", "float32"]),
    "labels as a list": ({"labels": [0, 0, 1, 1, 2, 2]}, TypeError, ["labels", "Tensor", "list"]),
    "sparse labels": ({"labels": L.to_sparse()}, TypeError, ["labels", "dense", "sparse"]),
    "short labels": ({"labels": L[:5]}, ValueError, ["labels", "6", "5"]),
    "matrix labels": ({"labels": L[:, None]}, ValueError, ["labels", "6, 1"]),
    "scalar labels": ({"labels": L[0]}, ValueError, ["labels"]),
    "labels elsewhere": ({"labels": L.to("meta")}, ValueError, ["labels", "cpu", "meta"]),
    "gallery of another width": (
        {"gallery": torch.rand(5, 3), "gallery_labels": LY},
        ValueError,
        ["gallery", "4", "3"],
    ),
    "gallery of rank 1": (
        {"gallery": torch.rand(4), "gallery_labels": LY},
        ValueError,
        ["gallery", "2", "4"],
    ),
    "an empty memory": (
        EmbeddingMemory(4).keywords,
        ValueError,
        ["gallery", "at least one row", "(0, 0)", "EmbeddingMemory"],
    ),
    "batches of batches": (
        {"embeddings": torch.rand(2, 6, 4), "labels": L.repeat(2, 1)},
        ValueError,
        ["embeddings", "one batch", "2, 6, 4", "batch_sampler="],
    ),
    "empty gallery": ({"gallery": Y[:0], "gallery_labels": LY[:0]}, ValueError, ["gallery", "0"]),
    "gallery elsewhere": (
        {"gallery": Y.to("meta"), "gallery_labels": LY},
        ValueError,
        ["gallery", "cpu", "meta"],
    ),
    "integer gallery": ({"gallery": Y.long(), "gallery_labels": LY}, TypeError, ["gallery", "int64"]),
    "gallery as a list": ({"gallery": [1.0], "gallery_labels": LY}, TypeError, ["gallery", "list"]),
    "no gallery labels": ({"gallery": Y}, ValueError, ["gallery_labels"]),
    "gallery labels alone": ({"gallery_labels": LY}, ValueError, ["gallery"]),
    "gallery labels without labels": (
        {"labels": None, "gallery": Y, "gallery_labels": LY},
        ValueError,
        ["labels"],
    ),
    "short gallery labels": (
        {"gallery": Y, "gallery_labels": LY[:4]},
        ValueError,
        ["gallery_labels", "5", "4"],
    ),
    "float gallery labels": (
        {"gallery": Y, "gallery_labels": LY.float()},
        TypeError,
        ["gallery_labels", "float32"],
    ),
    "unequal plain pairs": ({"labels": None, "gallery": Y}, ValueError, ["gallery", "6", "5"]),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_calls(loss: Loss, name: str, backend: Backend) -> None:
    given, error, words = CALLS[name]
    arguments = {"embeddings": X, "labels": L, **given}
    embeddings, labels = arguments.pop("embeddings"), arguments.pop("labels")
    refused(lambda: loss.module()(embeddings, labels, **arguments), error, words)
    refused(lambda: loss.function(embeddings, labels, **arguments), error, words)


@pytest.mark.parametrize("temperature", [torch.ones(2), torch.tensor(1)], ids=["two numbers", "an integer"])
def test_a_tensor_of_temperature(temperature: Tensor) -> None:
    refused(
        lambda: functional.info_nce_loss(X, gallery=X, temperature=temperature),
        ValueError,
        ["temperature", "floating-point tensor of one", str(list(temperature.shape))],
    )


def refused(call: Callable[[], object], error: Error | tuple[Error, ...], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words if not re.search(rf"(?<![a-z_]){re.escape(word)}", message)]
    assert not missing, f"{message!r} does not speak of {missing}"


BY_NAME = {loss.name: loss for loss in LOSSES}
OPTIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    (loss, {option: value}, [option, str(value)])
    for loss, options in {
        "ranked_list": {
            "alpha": -1.0,
            "margin": -0.5,
            "temperature_neg": -1.0,
            "temperature_pos": -2.0,
            "pos_weight": -1.0,
            "neg_weight": -1.0,
            "gradient": "queries",
            "positive_mean": "every",
            "eps": -1e-3,
        },
        "contrastive": {"pos_margin": -0.1, "neg_margin": -1.0, "power": 3},
        "triplet": {"margin": -0.2, "mining": "semi-hard"},
        "sup_con": {"temperature": 0.0},
        "info_nce": {"temperature": -1.0},
        "nt_xent": {"temperature": 0.0},
        "n_pairs": {"pairs": "some", "l2": -0.1},
        "angular": {"alpha": 90.0, "pairs": "some", "npairs_weight": -1.0},
        "multi_similarity": {"alpha": 0.0, "beta": -1.0, "base": -2.0, "mining_epsilon": -0.1},
        "circle": {"m": -0.1, "gamma": 0.0},
        "lifted_structure": {"neg_margin": -1.0, "pos_margin": -0.5},
        "margin": {"margin": -0.2, "nu": -1.0, "beta": -3.0},
    }.items()
    for option, value in {**options, "metric": "manhattan", "reduction": "average"}.items()
    if option in signature(BY_NAME[loss].function).parameters
]


@pytest.mark.parametrize(
    ("name", "options", "words"), OPTIONS, ids=lambda o: f"{o}" if isinstance(o, dict) else ""
)
def test_options(name: str, options: dict[str, Any], words: list[str], backend: Backend) -> None:
    """Modules refuse on construction, functions when called."""
    refused(lambda: BY_NAME[name].module(**options), ValueError, words)
    refused(lambda: BY_NAME[name].function(X, L, **options), ValueError, words)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("ranked_list", "alpha"),
        ("contrastive", "neg_margin"),
        ("triplet", "margin"),
        ("sup_con", "temperature"),
        ("info_nce", "temperature"),
    ],
)
def test_non_finite_options(name: str, option: str, value: float, backend: Backend) -> None:
    refused(lambda: BY_NAME[name].module(**{option: value}), ValueError, [option, str(value)])


def index(*values: int) -> Tensor:
    return torch.tensor(values)


TRIPLETS: dict[str, tuple[Any, Error | tuple[Error, ...], list[str]]] = {
    "out of range": ((index(0, 6), index(1, 1), index(2, 2)), ValueError, ["triplets", "6"]),
    "negative": ((index(0, 1), index(1, -1), index(2, 2)), ValueError, ["triplets", "-1"]),
    "unequal lengths": ((index(0, 1), index(1), index(2, 2)), ValueError, ["triplets"]),
    "two of three": ((index(0), index(1)), (ValueError, TypeError), ["triplets", "2"]),
    "floats": ((index(0).float(), index(1), index(2)), TypeError, ["triplets", "integer", "float32"]),
    "bools": ((index(0), index(1).bool(), index(2)), TypeError, ["triplets[1]", "integer", "bool"]),
    "a small dtype out of range": ((index(0), index(1), index(6).short()), ValueError, ["triplets[2]", "6"]),
    "matrices": ((index(0)[None], index(1)[None], index(2)[None]), ValueError, ["triplets"]),
}


@pytest.mark.parametrize("name", TRIPLETS)
def test_triplets(name: str, backend: Backend) -> None:
    given, error, words = TRIPLETS[name]
    refused(lambda: functional.triplet_margin_loss(X, triplets=given), error, words)


RETRIEVAL: dict[str, tuple[Callable[[], object], Error | tuple[Error, ...], list[str]]] = {
    "k over N": (lambda: retrieval.topk(X, Y, 6), ValueError, ["k", "5", "6"]),
    "k over N without itself": (
        lambda: retrieval.topk(X, X, 6, exclude_self=True),
        ValueError,
        ["k", "5", "6"],
    ),
    "k of 0": (lambda: retrieval.topk(X, Y, 0), ValueError, ["k", "0"]),
    "negative k": (lambda: retrieval.topk(X, Y, -1), ValueError, ["k", "-1"]),
    "k as a float": (lambda: retrieval.topk(X, Y, 2.0), TypeError, ["k", "int", "float"]),
    "widths": (lambda: retrieval.topk(X, torch.rand(5, 3), 2), ValueError, ["gallery", "4", "3"]),
    "metric": (lambda: retrieval.topk(X, Y, 2, metric="l2"), ValueError, ["metric", "l2"]),
    "integers": (lambda: retrieval.topk(X.long(), Y, 2), TypeError, ["queries", "int64"]),
    "self of two sets": (lambda: retrieval.topk(X, Y, 2, exclude_self=True), ValueError, ["exclude_self"]),
    "pairwise metric": (
        lambda: functional.pairwise_distance(X, Y, metric="l1"),
        ValueError,
        ["metric", "l1"],
    ),
    "pairwise widths": (lambda: functional.pairwise_distance(X, Y[:, :3]), ValueError, ["y", "4", "3"]),
    "paired with nothing": (
        lambda: functional.paired_distance(X, None),
        TypeError,
        ["y", "Tensor", "NoneType"],
    ),
    "paired lengths": (lambda: functional.paired_distance(X, Y), ValueError, ["y", "6", "5"]),
    "mining labels": (lambda: mining.hard(X, L.float()), TypeError, ["labels", "float32"]),
    "mining lengths": (lambda: mining.semihard(X, L[:3]), ValueError, ["labels", "6", "3"]),
    "unknown backend": (lambda: fused_rank.use_backend("opencl"), ValueError, ["opencl", "eager"]),
}


@pytest.mark.parametrize("name", RETRIEVAL)
def test_mining_and_retrieval(name: str, backend: Backend) -> None:
    refused(*RETRIEVAL[name])


INDEX_DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32]


@pytest.mark.parametrize("dtype", INDEX_DTYPES, ids=str)
def test_indices_of_any_integer_dtype(dtype: torch.dtype, backend: Backend) -> None:
    x = X.to(backend.device)
    wide = (index(0, 5), index(1, 4), index(2, 0))
    narrow = tuple(one.to(backend.device, dtype) for one in wide)
    expected = functional.triplet_margin_loss(x, triplets=tuple(one.to(backend.device) for one in wide))
    assert torch.equal(functional.triplet_margin_loss(x, triplets=narrow), expected)
    same = SAME.to(backend.device)
    expected = functional.contrastive_loss(x, pairs=(narrow[0].long(), narrow[1].long(), same))
    assert torch.equal(functional.contrastive_loss(x, pairs=(*narrow[:2], same)), expected)


SAME = torch.tensor([True, False])
LISTED: dict[str, tuple[Any, Error, list[str]]] = {
    "out of range": ((index(0, 6), index(1, 1), SAME), ValueError, ["pairs", "6"]),
    "unequal lengths": ((index(0, 1), index(1), SAME), ValueError, ["pairs"]),
    "two of three": ((index(0), index(1)), TypeError, ["pairs", "2"]),
    "floats": ((index(0).float(), index(1), SAME[:1]), TypeError, ["pairs", "integer", "float32"]),
    "bools": ((index(0).bool(), index(1), SAME[:1]), TypeError, ["pairs[0]", "integer", "bool"]),
    "same of another length": ((index(0, 1), index(1, 2), SAME[:1]), ValueError, ["pairs[2]"]),
    "same of integers": ((index(0, 1), index(1, 2), index(0, 1)), TypeError, ["pairs[2]", "bool"]),
    "same no tensor": ((index(0, 1), index(1, 2), [True, False]), TypeError, ["pairs[2]", "list"]),
}


@pytest.mark.parametrize("name", LISTED)
def test_listed_pairs(name: str, backend: Backend) -> None:
    given, error, words = LISTED[name]
    refused(lambda: functional.contrastive_loss(X, pairs=given), error, words)


LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
BORDERS: dict[str, tuple[Any, Tensor | None, Error, list[str]]] = {
    "negative": (-1.0, LABELS, ValueError, ["beta", "-1"]),
    "integers": (torch.tensor(1), LABELS, TypeError, ["beta", "int64"]),
    "a matrix": (torch.ones(2, 2), LABELS, ValueError, ["beta", "(2, 2)"]),
    "too few classes": (torch.ones(2), LABELS, ValueError, ["labels", "[0, 2)", "2"]),
    "negative labels": (torch.ones(4), LABELS - 1, ValueError, ["labels", "-1"]),
    "no labels": (torch.ones(4), None, ValueError, ["beta", "one number"]),
}


@pytest.mark.parametrize("name", BORDERS)
def test_borders_of_the_margin_loss(name: str, backend: Backend) -> None:
    beta, labels, error, words = BORDERS[name]
    gallery = {"gallery": X} if labels is None else {}
    refused(lambda: functional.margin_loss(X, labels, **gallery, beta=beta), error, words)


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_number_of_classes(count: object, error: Error, backend: Backend) -> None:
    refused(lambda: MarginLoss(num_classes=count), error, ["num_classes"])

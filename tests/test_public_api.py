"""The public names and signatures, pinned: a change here is a change for users and belongs in the changelog."""

from __future__ import annotations

import doctest
import inspect
from types import ModuleType

import pytest

import fused_rank
from fused_rank import functional, mining, reference, retrieval

NAMES = {
    fused_rank: {
        "ContrastiveLoss", "InfoNCELoss", "RankedListLoss", "SupConLoss", "TripletMarginLoss", "backends", "functional",
        "mining", "reference", "retrieval", "use_backend", "__version__",
    },
    functional: {
        "contrastive_loss", "info_nce_loss", "paired_distance", "pairwise_distance", "ranked_list_loss", "sup_con_loss",
        "triplet_margin_loss",
    },
    mining: {"HardIndices", "Triplets", "hard", "semihard"},
    retrieval: {"TopK", "topk"},
    reference: {
        "contrastive_loss", "info_nce_loss", "ranked_list_loss", "sup_con_loss", "triplet_margin_loss",
    },
}  # fmt: skip

SIGNATURES = {
    "RankedListLoss": "alpha=1.2, margin=0.4, temperature_neg=10.0, *, temperature_pos=0.0, pos_weight=1.0, "
    "neg_weight=1.0, gradient='query', positive_mean='active', eps=0.0, normalize=True, metric='euclidean', "
    "reduction='mean'",
    "ContrastiveLoss": "pos_margin=0.0, neg_margin=1.0, *, power=2, normalize=True, metric='euclidean', "
    "reduction='mean'",
    "TripletMarginLoss": "margin=0.2, mining='semihard', *, soft_margin=False, normalize=True, "
    "metric='euclidean', reduction=None",
    "SupConLoss": "temperature=0.1, *, reduction='mean'",
    "InfoNCELoss": "temperature=0.07, *, symmetric=False, reduction='mean'",
    "SupConLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "InfoNCELoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "RankedListLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "ContrastiveLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "TripletMarginLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None, "
    "triplets=None",
    "functional.pairwise_distance": "x, y=None, *, metric='euclidean', normalize=False",
    "functional.paired_distance": "x, y, *, metric='euclidean', normalize=False",
    "mining.hard": "embeddings, labels=None, *, gallery=None, gallery_labels=None, metric='euclidean', "
    "normalize=True",
    "mining.semihard": "embeddings, labels=None, *, gallery=None, gallery_labels=None, metric='euclidean', "
    "normalize=True",
    "retrieval.topk": "queries, gallery, k, *, metric='euclidean', normalize=False, exclude_self=False",
    "use_backend": "name",
    "backends": "",
}


def named(module: ModuleType) -> str:
    return module.__name__


@pytest.mark.parametrize("module", NAMES, ids=named)
def test_names(module: ModuleType) -> None:
    assert set(module.__all__) == NAMES[module]
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    target: object = fused_rank
    for part in name.split("."):
        target = getattr(target, part)
    signature = inspect.signature(target)  # type: ignore[arg-type]
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    without_types = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    assert str(without_types) == f"({SIGNATURES[name]})"


PUBLIC = [
    (module, name)
    for module in (fused_rank, functional, mining, retrieval)
    for name in sorted(NAMES[module])
    if callable(getattr(module, name)) and name not in ("HardIndices", "Triplets", "TopK")
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda v: v if isinstance(v, str) else named(v))
def test_docstrings_have_an_example_that_runs(module: ModuleType, name: str) -> None:
    target = getattr(module, name)
    examples = doctest.DocTestFinder(recurse=False).find(target, name, globs=vars(module).copy())
    assert sum(len(e.examples) for e in examples) > 0, f"{name} shows no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in examples:
        assert runner.run(example).failed == 0


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda v: v if isinstance(v, str) else named(v))
def test_every_argument_is_typed(module: ModuleType, name: str) -> None:
    target = getattr(module, name)
    function = target.__init__ if inspect.isclass(target) else target
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty

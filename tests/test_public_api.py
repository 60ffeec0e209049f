"""The public names and signatures, pinned: a change here is a change for users and belongs in the changelog."""

from __future__ import annotations

import doctest
import inspect
from types import ModuleType

import pytest

import fused_rank
from fused_rank import batches, diagnostics, functional, mining, reference, retrieval

NAMES = {
    fused_rank: {
        "AngularLoss", "CircleLoss", "ContrastiveLoss", "GeneralizedLiftedStructureLoss", "InfoNCELoss", "MarginLoss",
        "MultiSimilarityLoss", "NPairsLoss", "NTXentLoss", "RankedListLoss", "SupConLoss", "TripletMarginLoss",
        "backends", "batches", "diagnostics", "functional", "mining", "reference", "retrieval",
        "use_backend", "__version__",
    },
    functional: {
        "angular_loss", "circle_loss", "contrastive_loss", "info_nce_loss", "lifted_structure_loss", "margin_loss",
        "multi_similarity_loss", "n_pairs_loss", "nt_xent_loss", "paired_distance", "pairwise_distance",
        "ranked_list_loss", "sup_con_loss", "triplet_margin_loss",
    },
    mining: {
        "HardIndices", "Partners", "TripletStats", "Triplets", "distance_weighted", "hard", "offline", "partners",
        "random", "semihard", "triplet_stats",
    },
    retrieval: {"Evaluation", "TopK", "evaluate", "topk"},
    batches: {"EmbeddingMemory", "PKSampler"},
    diagnostics: {"CollapseWarning", "EmbeddingHealth", "NormSpread", "embedding_health"},
    reference: {
        "angular_loss", "circle_loss", "contrastive_loss", "info_nce_loss", "lifted_structure_loss", "margin_loss",
        "multi_similarity_loss", "n_pairs_loss", "nt_xent_loss", "ranked_list_loss", "sup_con_loss",
        "triplet_margin_loss",
    },
}  # fmt: skip

SIGNATURES = {
    "RankedListLoss": "alpha=1.2, margin=0.4, temperature_neg=10.0, *, temperature_pos=0.0, pos_weight=1.0, "
    "neg_weight=1.0, gradient='query', positive_mean='active', eps=0.0, normalize=True, metric='euclidean', "
    "reduction='mean'",
    "ContrastiveLoss": "pos_margin=0.0, neg_margin=1.0, *, power=2, normalize=True, metric='euclidean', "
    "reduction='mean'",
    "TripletMarginLoss": "margin=0.2, mining='semihard', *, soft_margin=False, symmetric=False, "
    "exclude_closer_than=None, normalize=True, metric='euclidean', reduction=None",
    "SupConLoss": "temperature=0.1, *, reduction='mean'",
    "InfoNCELoss": "temperature=0.07, *, learn_temperature=False, symmetric=False, reduction='mean'",
    "SupConLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "InfoNCELoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "RankedListLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None",
    "ContrastiveLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None, pairs=None",
    "NTXentLoss": "temperature=0.07, *, reduction='mean'",
    "NPairsLoss": "pairs='all', l2=0.0, *, normalize=True, reduction='mean'",
    "AngularLoss": "alpha=40.0, pairs='unique', npairs_weight=0.0, *, reduction='mean'",
    "MultiSimilarityLoss": "alpha=2.0, beta=50.0, base=0.5, *, mining_epsilon=None, reduction='mean'",
    "CircleLoss": "m=0.4, gamma=80.0, *, reduction='mean_active'",
    "GeneralizedLiftedStructureLoss": "neg_margin=1.0, pos_margin=0.0, *, normalize=True, metric='euclidean', "
    "reduction='mean'",
    "MarginLoss": "margin=0.2, nu=0.0, beta=1.2, *, learn_beta=False, num_classes=None, normalize=True, "
    "metric='euclidean', reduction='mean_active'",
    **{
        f"{name}.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None"
        for name in (
            "NTXentLoss",
            "NPairsLoss",
            "AngularLoss",
            "MultiSimilarityLoss",
            "CircleLoss",
            "GeneralizedLiftedStructureLoss",
            "MarginLoss",
        )
    },
    "TripletMarginLoss.forward": "self, embeddings, labels=None, *, gallery=None, gallery_labels=None, "
    "triplets=None, mining_embeddings=None",
    "functional.pairwise_distance": "x, y=None, *, metric='euclidean', normalize=False",
    "functional.paired_distance": "x, y, *, metric='euclidean', normalize=False",
    "mining.hard": "embeddings, labels=None, *, gallery=None, gallery_labels=None, metric='euclidean', "
    "normalize=True",
    "mining.semihard": "embeddings, labels=None, *, gallery=None, gallery_labels=None, metric='euclidean', "
    "normalize=True",
    "retrieval.topk": "queries, gallery, k, *, metric='euclidean', normalize=False, exclude_self=False",
    "mining.partners": "embeddings, labels=None, *, positive='hard', negative='hard', gallery=None, "
    "gallery_labels=None, metric='euclidean', normalize=True",
    "mining.random": "embeddings, labels=None, *, gallery=None, gallery_labels=None, generator=None",
    "mining.distance_weighted": "embeddings, labels=None, *, gallery=None, gallery_labels=None, cutoff=0.5, "
    "nonzero_loss_cutoff=1.4, generator=None",
    "mining.triplet_stats": "embeddings, labels=None, *, margin=0.2, gallery=None, gallery_labels=None, "
    "metric='euclidean', normalize=True",
    "mining.offline": "queries, labels, gallery=None, gallery_labels=None, *, positive='hard', negative='hard', "
    "metric='euclidean', normalize=True, chunk=16384, device=None, progress=True",
    "retrieval.evaluate": "queries, labels=None, gallery=None, gallery_labels=None, *, k=(1, 10), "
    "metric='euclidean', normalize=False",
    "batches.PKSampler": "labels, classes, samples, *, seed=0, small='repeat', num_replicas=None, rank=None",
    "batches.EmbeddingMemory": "size",
    "diagnostics.embedding_health": "embeddings, labels, *, near=0.05, bins=50, metric='euclidean', "
    "normalize=True, warn=True",
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
    for module in (fused_rank, functional, mining, retrieval, batches, diagnostics)
    for name in sorted(NAMES[module])
    if callable(value := getattr(module, name))
    and not (isinstance(value, type) and issubclass(value, (tuple, Warning)))  # results need no example
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

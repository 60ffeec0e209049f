"""retrieval.evaluate against the definitions, written out over a full sort, and against other libraries."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean

import pytest
import torch

from fused_rank import retrieval
from fused_rank.retrieval import Evaluation

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import case_id
from .oracle import distances, pairs
from .tolerances import TOLERANCES

CUTOFFS = [1, 5, 20, 1000]
METRICS = ["euclidean", "sqeuclidean", "cosine", "dot"]
SHAPES = [(1, 1), (2, 3), (65, 63), (130, 257), (257, 40)]


def rankings(inputs: Inputs, metric: str, normalize: bool) -> list[tuple[list[int], int]]:
    """Of each query the ranks of its positives, from 1, ties by index."""
    truth = inputs.oracle()
    x = truth.embeddings.detach()
    y = x if truth.gallery is None else truth.gallery.detach()
    same, other = pairs(truth.labels, truth.gallery_labels, len(x), len(y), truth.gallery is None)
    if metric == "dot":
        if normalize:
            x, y = (torch.nn.functional.normalize(rows, dim=1) for rows in (x, y))
        d = -x @ y.t()
    else:
        d = distances(x, y, metric, normalize)
    found = []
    for row, p, n in zip(d.tolist(), same.tolist(), other.tolist(), strict=True):
        ranking = sorted((j for j in range(len(row)) if p[j] or n[j]), key=lambda j: (row[j], j))
        found.append(([r for r, j in enumerate(ranking, 1) if p[j]], len(ranking)))
    return found


def expected(rankings: list[tuple[list[int], int]]) -> Evaluation:
    ranks = [r for r, _ in rankings if r]
    gain = [1 / math.log2(1 + r) for r in range(1, 2000)]
    precisions = [[i / at for i, at in enumerate(r, 1)] for r in ranks]
    within = {k: [[at for at in r if at <= k] for r in ranks] for k in CUTOFFS}
    return Evaluation(
        recall={k: fmean(bool(w) for w in found) for k, found in within.items()},
        coverage={
            k: fmean(len(w) / len(r) for w, r in zip(found, ranks, strict=True))
            for k, found in within.items()
        },
        precision={k: fmean(len(w) / k for w in found) for k, found in within.items()},
        ndcg={
            k: fmean(
                sum(gain[at - 1] for at in w) / sum(gain[: min(len(r), k)])
                for w, r in zip(found, ranks, strict=True)
            )
            for k, found in within.items()
        },
        r_precision=fmean(sum(at <= len(r) for at in r) / len(r) for r in ranks),
        map_at_r=fmean(
            sum(p for p, at in zip(ps, r, strict=True) if at <= len(r)) / len(r)
            for ps, r in zip(precisions, ranks, strict=True)
        ),
        average_precision=fmean(fmean(ps) for ps in precisions),
        mrr=fmean(1 / r[0] for r in ranks),
        queries=len(ranks),
    )


def flat(result: Evaluation) -> list[float]:
    return [
        number
        for field in result
        for number in (field.values() if isinstance(field, dict) else [float(field)])
    ]


def run(inputs: Inputs, backend: Backend, metric: str = "euclidean", normalize: bool = False) -> Evaluation:
    ours = inputs.to(backend.device)
    return retrieval.evaluate(
        ours.embeddings,
        ours.labels,
        ours.gallery,
        ours.gallery_labels,
        k=CUTOFFS,
        metric=metric,  # type: ignore[arg-type]
        normalize=normalize,
    )


def check(inputs: Inputs, backend: Backend, metric: str = "euclidean", normalize: bool = False) -> None:
    wanted = rankings(inputs, metric, normalize)
    if any(ranks for ranks, _ in wanted):
        assert flat(run(inputs, backend, metric, normalize)) == pytest.approx(flat(expected(wanted)))
    else:
        assert run(inputs, backend, metric, normalize).queries == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_definitions(
    shape: tuple[int, int],
    form: str,
    normalize: bool,
    metric: str,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    check(make_inputs(form, *shape, 13, torch.float64, generator), backend, metric, normalize)


@pytest.mark.parametrize("sizes", [(70, 3), (300, 5), (260, 66), (13, 12, 1), (12, 14)], ids=str)
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_large_and_lonely_classes(
    sizes: tuple[int, ...], metric: str, backend: Backend, generator: torch.Generator
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), 6, generator=generator, dtype=torch.float64)
    check(Inputs(x, labels), backend, metric)


@pytest.mark.parametrize("classes", [2, 40])
@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_ties_go_to_the_lowest_index(
    metric: str, levels: int, classes: int, backend: Backend, generator: torch.Generator
) -> None:
    """Rows on a grid of a few points, in fp32: nearly every distance occurs many times over."""
    x = torch.randint(0, levels, (170, 3), generator=generator).float()
    labels = torch.randint(0, classes, (170,), generator=generator)
    check(Inputs(x, labels), backend, metric)
    y, others = x[:90].flip(0), labels[:90].flip(0)
    check(Inputs(x, labels, y, others), backend, metric)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
def test_dtypes(dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    """fp32 may order neighbours at nearly one distance otherwise, which moves a mean by little."""
    inputs = make_inputs("two-set", 150, 200, 40, dtype, generator)
    result = run(inputs, backend)
    assert flat(result) == pytest.approx(flat(expected(rankings(inputs, "euclidean", False))), abs=1e-3)
    assert all(isinstance(number, float) for number in flat(result))


def test_close_vectors_keep_their_order(backend: Backend, generator: torch.Generator) -> None:
    """A tight cluster far from the origin, where |x|² + |y|² − 2x·y knows no order at all."""
    x = (100 + 1e-3 * torch.randn(200, 12, generator=generator)).float()
    labels = torch.randint(0, 20, (200,), generator=generator)
    inputs = Inputs(x, labels)
    assert flat(run(inputs, backend)) == pytest.approx(
        flat(expected(rankings(inputs, "euclidean", False))), abs=1e-3
    )


def test_queries_as_gallery_are_searched_without_themselves(
    backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("self", 60, 0, 8, torch.float32, generator).to(backend.device)
    x, labels = inputs.embeddings, inputs.labels
    alone = retrieval.evaluate(x, labels)
    assert retrieval.evaluate(x, labels, x) == alone
    assert retrieval.evaluate(x, labels, x, labels) == alone
    assert retrieval.evaluate(x, labels, x.clone(), labels).recall[1] == 1.0
    assert list(alone.recall) == [1, 10]


def test_recall_is_that_of_topk(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("self", 120, 0, 8, torch.float32, generator, per_class=3).to(backend.device)
    x, labels = inputs.embeddings, inputs.labels
    assert labels is not None
    nearest = retrieval.topk(x, None, 4, exclude_self=True).indices
    counts = labels.unique(return_counts=True, return_inverse=True)
    real = counts[2][counts[1]] > 1
    hits = (labels[nearest] == labels[:, None]).any(1)[real]
    result = retrieval.evaluate(x, labels, k=4)
    assert result.recall == {4: pytest.approx(float(hits.double().mean()))}
    assert result.queries == int(real.sum())


@pytest.mark.parametrize("side", ["queries", "gallery"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_is_seen(
    bad: float, side: str, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("two-set", 40, 50, 6, torch.float32, generator, per_class=10)
    damaged = inputs.embeddings if side == "queries" else inputs.gallery
    assert damaged is not None
    damaged[7, 2] = bad
    numbers = flat(run(inputs, backend))[:-1]
    assert all(math.isnan(number) for number in numbers)


@pytest.mark.parametrize("labels", [[0, 1, 2], [5]], ids=str)
def test_nothing_to_find(labels: list[int], backend: Backend) -> None:
    x = torch.randn(len(labels), 4, device=backend.device)
    result = retrieval.evaluate(x, torch.tensor(labels, device=backend.device), k=[1, 3])
    assert result.queries == 0
    assert math.isnan(result.mrr)
    assert all(math.isnan(number) for number in flat(result)[:-1])


def test_same_bits_in_any_number_of_threads(backend: Backend, generator: torch.Generator) -> None:
    if backend.name != "cpp":
        pytest.skip("threads are the engine's")
    inputs = make_inputs("self", 900, 0, 16, torch.float32, generator, per_class=30)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(inputs, backend, "cosine"))
    finally:
        torch.set_num_threads(before)
    assert all(a == b for a, b in pairwise(results))


def test_scikit_learn(backend: Backend, generator: torch.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    inputs = make_inputs("two-set", 60, 90, 12, torch.float64, generator)
    result = run(inputs, backend)
    assert inputs.gallery is not None
    assert inputs.gallery_labels is not None
    d = distances(inputs.embeddings, inputs.gallery).numpy()
    relevant = (inputs.labels[:, None] == inputs.gallery_labels).numpy()  # type: ignore[index]
    rows = [i for i in range(len(d)) if relevant[i].any()]
    precision = fmean(metrics.average_precision_score(relevant[i], -d[i]) for i in rows)
    assert result.average_precision == pytest.approx(precision)
    for k in CUTOFFS:
        assert result.ndcg[k] == pytest.approx(
            fmean(metrics.ndcg_score(relevant[i : i + 1], -d[i : i + 1], k=k) for i in rows)
        )


@pytest.mark.parametrize("form", ["self", "two-set"])
def test_pytorch_metric_learning(form: str, backend: Backend, generator: torch.Generator) -> None:
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    inputs = make_inputs(form, 80, 110, 12, torch.float64, generator, per_class=8)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    theirs = AccuracyCalculator(
        include=(*names, "mean_average_precision"),
        k=len(inputs.embeddings if inputs.gallery is None else inputs.gallery) - (form == "self"),
        device=torch.device("cpu"),
        knn_func=CustomKNN(LpDistance(normalize_embeddings=False)),
    ).get_accuracy(inputs.embeddings, inputs.labels, inputs.gallery, inputs.gallery_labels)
    ours = run(inputs, backend)
    assert theirs["precision_at_1"] == pytest.approx(ours.precision[1])
    assert theirs["precision_at_1"] == pytest.approx(ours.recall[1])
    assert theirs["r_precision"] == pytest.approx(ours.r_precision)
    assert theirs["mean_average_precision_at_r"] == pytest.approx(ours.map_at_r)
    assert theirs["mean_average_precision"] == pytest.approx(ours.average_precision)
    assert theirs["mean_reciprocal_rank"] == pytest.approx(ours.mrr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: expected an integer >= 1, got 0"),
        ({"k": [1, 2.0]}, "k: expected an integer, got float"),
        ({"k": True}, "k: expected an integer, got bool"),
        ({"metric": "manhattan"}, "metric: expected one of"),
        ({"normalize": 1}, "normalize: expected True or False"),
        ({"labels": None}, "labels: expected a tensor of integers"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels: expected shape \(4,\) as queries has"),
        ({"gallery": torch.zeros(5, 3)}, "gallery_labels: expected a tensor"),
        ({"queries": torch.zeros(4)}, "queries: expected 2 dimensions"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    given = {"queries": torch.zeros(4, 3), "labels": torch.zeros(4, dtype=torch.int64)} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        retrieval.evaluate(**given)  # type: ignore[arg-type]

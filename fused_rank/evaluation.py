"""Retrieval measures of a whole data set, from the ranks of each query's positives alone."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .ops.dispatch import select
from .ops.option_checks import check_choice, check_count, check_flag
from .ops.options import RETRIEVAL_METRICS, RetrievalMetric
from .ops.validation import check_pairs, check_values


class Evaluation(NamedTuple):
    """Means over the queries that have a positive; `queries` is how many these are (0: every measure is NaN).

    With the positives of a query at ranks r₁ < … < r_P of its ranking, from 1:

    - `recall[k]`: is there one among the first k? The Recall@k of metric learning (elsewhere: hit rate).
    - `coverage[k]`: the share of the P positives among the first k (the recall of information retrieval).
    - `precision[k]`: positives among the first k, over k.
    - `ndcg[k]`: Σ_{rᵢ ≤ k} 1 / log₂(1 + rᵢ) over its greatest value, with binary gains.
    - `r_precision`: positives among the first P, over P.
    - `map_at_r`: (Σ_{rᵢ ≤ P} i / rᵢ) / P (Musgrave et al., 2020).
    - `average_precision`: (Σᵢ i / rᵢ) / P over the full ranking; their mean is the mAP of retrieval papers.
    - `mrr`: 1 / r₁.
    """

    recall: dict[int, float]
    coverage: dict[int, float]
    precision: dict[int, float]
    ndcg: dict[int, float]
    r_precision: float
    map_at_r: float
    average_precision: float
    mrr: float
    queries: int


def evaluate(
    queries: Tensor,
    labels: Tensor | None = None,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    *,
    k: int | Iterable[int] = (1, 10),
    metric: RetrievalMetric = "euclidean",
    normalize: bool = False,
) -> Evaluation:
    """Recall@k, precision@k, nDCG@k, R-precision, MAP@R, average precision and MRR, exactly, in O(N·D) memory.

    Every query's distances to the whole gallery are formed a strip at a time; its positives are sorted and the rest is
    counted between them, so that the full ranking is used and never written down. Among equal distances the lowest
    gallery index comes first, as in `topk`.

    Args:
        queries: [M, D], float32, float64, bfloat16 or float16.
        labels: integers [M]; may be left out together with `gallery_labels` (query i's positive is gallery row i).
        gallery: [N, D]; None (or `queries` itself): every query searches the other queries.
        gallery_labels: integers [N].
        k: cutoffs, each at least 1; one beyond the gallery counts what there is.
        metric: ``"euclidean"``, ``"sqeuclidean"``, ``"cosine"`` (1 − cos, always normalised) or ``"dot"`` (the greatest
            inner product first).
        normalize: divide rows by their norms first. Losses do so by default, retrieval does not.

    Returns:
        `Evaluation`, of floats. Queries without any positive are left out. A row that is not finite makes every
        measure NaN.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [1.5], [4.0]])
    >>> found = evaluate(x, torch.tensor([0, 0, 1, 1]), k=[1, 2])
    >>> found.recall
    {1: 0.5, 2: 0.75}
    >>> round(found.mrr, 3), found.queries
    (0.708, 4)
    """
    check_choice("metric", metric, RETRIEVAL_METRICS)
    normalize = check_flag("normalize", normalize)
    cutoffs = _cutoffs(k)
    if gallery is queries and (gallery_labels is None or gallery_labels is labels):
        gallery = gallery_labels = None
    queries, labels, gallery, gallery_labels = check_pairs(
        queries, labels, gallery, gallery_labels, name="queries"
    )
    check_values("queries", queries)
    rank = select("retrieval.evaluate", queries).rank_positives
    gallery = None if gallery is None else gallery.detach()
    rows = rank(queries.detach(), labels, gallery, gallery_labels, cutoffs, metric, normalize)
    return _means(rows[:, rows[0] != 0], cutoffs)


def _cutoffs(k: int | Iterable[int]) -> list[int]:
    one = not isinstance(k, Iterable) or getattr(k, "shape", None) == ()  # of a 0-d array too
    values: Iterable[Any] = [k] if one else k  # type: ignore[assignment]
    return sorted({check_count("k", value) for value in values})


def _means(rows: Tensor, cutoffs: list[int]) -> Evaluation:
    """Means of the operator's columns [5 + 2K, queries with a positive]."""
    positives, first, among, average, early = rows[:5]
    found, gain = rows[5:].reshape(2, len(cutoffs), rows.shape[1])
    depth = torch.tensor(cutoffs, dtype=rows.dtype, device=rows.device).unsqueeze(1)

    def by_cutoff(values: Tensor) -> dict[int, float]:
        return dict(zip(cutoffs, values.mean(1).tolist(), strict=True))

    return Evaluation(
        recall=by_cutoff(found.clamp(max=1)),
        coverage=by_cutoff(found / positives),
        precision=by_cutoff(found / depth),
        ndcg=by_cutoff(gain),
        r_precision=float((among / positives).mean()),
        map_at_r=float(early.mean()),
        average_precision=float(average.mean()),
        mrr=float((1 / first).mean()),
        queries=rows.shape[1],
    )

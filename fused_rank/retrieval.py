"""Exact nearest neighbours, and retrieval measures of the full ranking, without the distance matrix."""

from typing import NamedTuple

from torch import Tensor

from .evaluation import Evaluation, evaluate
from .ops.dispatch import select
from .ops.option_checks import check_choice, check_flag, check_integer
from .ops.options import RETRIEVAL_METRICS, RetrievalMetric
from .ops.validation import check_rows, check_same_space

__all__ = ["Evaluation", "TopK", "evaluate", "topk"]


class TopK(NamedTuple):
    """Best values [M, k], best first, and the gallery rows they belong to, int64 [M, k]."""

    values: Tensor
    indices: Tensor


def topk(
    queries: Tensor,
    gallery: Tensor | None,
    k: int,
    *,
    metric: RetrievalMetric = "euclidean",
    normalize: bool = False,
    exclude_self: bool = False,
) -> TopK:
    """The k nearest gallery rows of each query, exactly; ties go to the lowest index.

    Args:
        queries: [M, D], float32, float64, bfloat16 or float16.
        gallery: [N, D]; None means the queries themselves.
        k: how many, at most the number of rows there are (one less with `exclude_self`).
        metric: ``"euclidean"``, ``"sqeuclidean"`` and ``"cosine"`` (1 − cos, always normalised) give
            distances, ascending; ``"dot"`` gives inner products, descending.
        normalize: divide rows by their norms first.
        exclude_self: leave out row i for query i; only where the gallery is the queries, row by row.

    Returns:
        Values, float64 where a side is float64 and float32 otherwise, and int64 indices. Neither is differentiable:
        `functional.paired_distance(queries, gallery[indices[:, 0]])` is.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> gallery = torch.tensor([[0.0], [10.0], [3.0]])
    >>> values, indices = topk(torch.tensor([[2.0]]), gallery, 2)
    >>> values.tolist(), indices.tolist()
    ([[1.0, 2.0]], [[2, 0]])
    """
    check_choice("metric", metric, RETRIEVAL_METRICS)
    normalize = check_flag("normalize", normalize)
    exclude_self = check_flag("exclude_self", exclude_self)
    check_rows("queries", queries)
    if gallery is queries:
        gallery = None
    if gallery is not None:
        check_rows("gallery", gallery)
        queries, gallery = check_same_space("gallery", gallery, "queries", queries)
        if exclude_self and gallery.shape != queries.shape:
            raise ValueError(
                "exclude_self: expected False with a gallery that is not the queries row by row, got True with "
                f"shapes {tuple(queries.shape)} and {tuple(gallery.shape)}"
            )
    k = check_integer("k", k)
    available = (queries if gallery is None else gallery).shape[0] - exclude_self
    if not 1 <= k <= available:
        raise ValueError(f"k: expected 1 to {available}, the number of rows to choose from, got {k}")
    find = select("retrieval.topk", queries).topk
    gallery = None if gallery is None else gallery.detach()
    return TopK(*find(queries.detach(), gallery, k, metric, normalize, exclude_self))

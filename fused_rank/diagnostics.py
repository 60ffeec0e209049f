"""Is an embedding still alive? Norms, effective rank and distances of a batch, and warnings when it is collapsing."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from .ops.dispatch import select
from .ops.option_checks import check_choice, check_count, check_flag, check_number
from .ops.options import METRICS, Metric
from .ops.rows import prepare
from .ops.validation import check_labels, check_rows, check_values

__all__ = ["CollapseWarning", "EmbeddingHealth", "NormSpread", "embedding_health"]

_SLAB = 1 << 20  # elements of a [rows, D] piece in fp64
NEAR_NEGATIVES = 0.01  # warn above this share of negative pairs nearer than ε
SPREAD = 0.1  # warn below
RANK = 2.0  # warn below, where there are dimensions and classes for more


class CollapseWarning(UserWarning):
    """An embedding is collapsing, or has collapsed."""


class NormSpread(NamedTuple):
    """Lengths of the rows as they came."""

    mean: float
    std: float
    minimum: float
    maximum: float


class EmbeddingHealth(NamedTuple):
    """What `embedding_health` found; `problems` are sentences, empty for a healthy batch.

    - `norms`: of the rows as they came; all below is of the rows as the losses see them (normalised by default).
    - `effective_rank`: exp(−Σ pᵢ log pᵢ) of the covariance's eigenvalues over their sum (Roy and Vetterli, 2007): how
      many dimensions the batch really uses, from 1 to D; 0 where all rows are one point.
    - `spread`: root mean square distance from the mean over root mean square length, from 0 (one point) to 1.
    - `near_positive`, `near_negative`: the share of pairs not farther apart than ε; NaN where there is no pair.
    - `edges` [bins + 1], `positive` and `negative` [bins]: histograms of the distances within and between classes;
      pairs with edge < d ≤ next edge, the first bin with 0, int64, on the CPU.
    - `not_finite`: rows with a NaN or infinity, left out of everything else.
    """

    norms: NormSpread
    effective_rank: float
    spread: float
    near_positive: float
    near_negative: float
    edges: Tensor
    positive: Tensor
    negative: Tensor
    not_finite: int
    problems: tuple[str, ...]


def embedding_health(
    embeddings: Tensor,
    labels: Tensor,
    *,
    near: float = 0.05,
    bins: int = 50,
    metric: Metric = "euclidean",
    normalize: bool = True,
    warn: bool = True,
) -> EmbeddingHealth:
    """Norm spread, effective rank, near-duplicates and distance histograms of a batch; warns of collapse.

    Hard mining at too high a learning rate pulls everything into one point, where the loss stands still at its margin
    (Hermans et al., 2017; Schroff et al., 2015). Here that shows as a small spread, a low rank, or negative pairs
    nearer than ε. Costs O(B·D²) for the covariance and one sweep over the pairs, in O(B·D + D²) memory.

    Args:
        embeddings: [B, D], float32, float64, bfloat16 or float16.
        labels: integers [B].
        near: ε, in the metric.
        bins: of the histograms, equally wide from 0 to the largest distance there can be.
        metric: ``"euclidean"``, ``"sqeuclidean"`` or ``"cosine"`` (1 − cos, always normalised).
        normalize: divide rows by their norms first.
        warn: give each problem as a `CollapseWarning` too.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> x, labels = torch.randn(64, 16), torch.arange(64) // 4
    >>> health = embedding_health(x, labels)
    >>> health.problems, health.effective_rank > 8
    ((), True)
    >>> int(health.positive.sum()), int(health.negative.sum())  # 16 classes of 4
    (96, 1920)
    >>> dead = embedding_health(1 + 1e-3 * x, labels, warn=False)
    >>> dead.near_negative
    1.0
    >>> dead.problems[0]
    '100.0% of the negative pairs are at most 0.05 apart: rows of different classes have become one point'
    """
    check_rows("embeddings", embeddings)
    check_values("embeddings", embeddings)
    labels = check_labels("labels", labels, "embeddings", embeddings)
    near = check_number("near", near)
    bins = check_count("bins", bins)
    check_choice("metric", metric, METRICS)
    normalize = check_flag("normalize", normalize)
    warn = check_flag("warn", warn)
    finite = embeddings.isfinite().all(1)
    lost = int((~finite).sum())
    x, labels = (embeddings.detach()[finite], labels[finite]) if lost else (embeddings.detach(), labels)
    health = _nothing(bins, lost) if len(x) == 0 else _measure(x, labels, near, bins, metric, normalize)
    health = health._replace(not_finite=lost)
    room = min(embeddings.shape[1], len(torch.unique(labels)) - 1)
    health = health._replace(problems=tuple(_problems(health, near, room)))
    if warn:
        for problem in health.problems:
            warnings.warn(problem, CollapseWarning, stacklevel=2)
    return health


def _nothing(bins: int, lost: int) -> EmbeddingHealth:
    nan, none = float("nan"), torch.zeros(bins, dtype=torch.int64)
    edges = torch.full((bins + 1,), nan, dtype=torch.float64)
    return EmbeddingHealth(NormSpread(nan, nan, nan, nan), nan, nan, nan, nan, edges, none, none, lost, ())


def _measure(
    x: Tensor, labels: Tensor, near: float, bins: int, metric: Metric, normalize: bool
) -> EmbeddingHealth:
    norms = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    rows = prepare(x, normalize=normalize or metric == "cosine").rows
    mean, covariance, radius = _moments(rows)
    square = mean.square().sum() + covariance.trace()
    spread = float((covariance.trace() / square).sqrt()) if square > 0 else 0.0
    top = _largest(metric, normalize, radius)
    edges = torch.linspace(0, top, bins + 1, dtype=torch.float64)
    counts, close = _histogram(x, labels, edges, near, metric, normalize)
    totals = counts.sum(1)
    shares = (close.double() / totals).tolist()  # 0 / 0 is NaN: no pair
    return EmbeddingHealth(
        norms=NormSpread(
            float(norms.mean()), float(norms.std(correction=0)), float(norms.min()), float(norms.max())
        ),
        effective_rank=_effective_rank(covariance),
        spread=spread,
        near_positive=shares[0],
        near_negative=shares[1],
        edges=edges,
        positive=counts[0],
        negative=counts[1],
        not_finite=0,
        problems=(),
    )


def _moments(rows: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean [D] and covariance [D, D] in fp64, and the largest distance from the mean."""
    slabs = torch.split(rows, max(1, _SLAB // rows.shape[1]))
    mean = torch.stack([slab.double().sum(0) for slab in slabs]).sum(0) / rows.shape[0]
    covariance = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    radius = 0.0
    for slab in slabs:
        centred = slab.double() - mean
        covariance.addmm_(centred.t(), centred)
        radius = max(radius, float(centred.square().sum(1).max().sqrt()))
    return mean, covariance / rows.shape[0], radius


def _effective_rank(covariance: Tensor) -> float:
    values = torch.linalg.eigvalsh(covariance).clamp(min=0)
    total = values.sum()
    if not total > 0:
        return 0.0
    share = values / total
    return float(torch.special.entr(share).sum().exp())


def _largest(metric: Metric, normalize: bool, radius: float) -> float:
    """The largest distance there can be; 1 where all rows are one point."""
    if normalize or metric == "cosine":
        return 4.0 if metric == "sqeuclidean" else 2.0
    reach = 2 * radius
    return (reach**2 if metric == "sqeuclidean" else reach) or 1.0


def _histogram(
    x: Tensor, labels: Tensor, edges: Tensor, near: float, metric: Metric, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Positive and negative pairs by bin [2, bins], and those at most `near` apart [2]."""
    upper = edges[1:].tolist()
    steps = sorted({*upper, float(near)})
    count = select("diagnostics.embedding_health", x).distance_histogram
    fine = count(x, labels, None, None, steps, metric, normalize).cpu()
    close = fine[:, : steps.index(near) + 1].sum(1)
    # the finer bins between two edges are one; what lies above the last edge is there by rounding
    uppers = torch.tensor([*steps, steps[-1]], dtype=torch.float64)
    place = torch.bucketize(uppers, edges[1:]).clamp(max=len(upper) - 1)
    return torch.zeros(2, len(upper), dtype=torch.int64).index_add_(1, place, fine), close


def _problems(health: EmbeddingHealth, near: float, room: int) -> list[str]:
    """`room`: of how many dimensions the classes could make use."""
    found = []
    if health.not_finite:
        found.append(f"{health.not_finite} rows are not finite: the training has diverged")
    if health.near_negative > NEAR_NEGATIVES:
        found.append(
            f"{health.near_negative:.1%} of the negative pairs are at most {near:g} apart: rows of different"
            " classes have become one point"
        )
    if health.spread < SPREAD and health.positive.any() | health.negative.any():
        found.append(
            f"the rows differ from their mean by {health.spread:.1%} of their length: the batch is collapsing into one"
            " point, as hard mining at too high a learning rate does; lower it, or begin with semi-hard mining"
        )
    if health.effective_rank < RANK < room:
        found.append(
            f"the rows span {health.effective_rank:.1f} dimensions where their classes have room for {room}"
        )
    return found

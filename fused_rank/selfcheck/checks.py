"""One check for each public operation: run it on the device, compare value and gradients with the oracle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .. import functional, mining, retrieval
from . import oracle


@dataclass(frozen=True)
class Tolerance:
    value: float  # of |a − e| / (1 + |e|), everywhere
    gradient: float  # ‖a − e‖ / ‖e‖
    gap: float  # what is decided by less may be decided otherwise


# Sums are fp32 for all but fp64; a 16-bit gradient is rounded once more.
TOLERANCES = {
    torch.float32: Tolerance(2e-5, 2e-5, 2e-5),
    torch.bfloat16: Tolerance(2e-5, 4e-3, 2e-5),
    torch.float16: Tolerance(2e-5, 8e-4, 2e-5),
    torch.float64: Tolerance(1e-10, 1e-10, 1e-9),
}
# (M, N or None for self form, D): none a multiple of a tile; the last is wider than a slice of D.
SHAPES: tuple[tuple[int, int | None, int], ...] = ((69, None, 40), (37, 83, 40), (69, None, 275))
K = 5


@dataclass
class Batch:
    """Embeddings as handed over and, for the oracle, the same numbers in fp64 on the CPU."""

    x: Tensor
    labels: Tensor
    y: Tensor | None
    y_labels: Tensor | None
    exact_x: Tensor
    exact_y: Tensor | None
    random: torch.Generator

    @property
    def gallery(self) -> dict[str, Any]:
        return {} if self.y is None else {"gallery": self.y, "gallery_labels": self.y_labels}

    @property
    def masks(self) -> tuple[Tensor, Tensor]:
        return oracle.masks(self.labels.cpu(), None if self.y_labels is None else self.y_labels.cpu())

    def distances(self, metric: str = "euclidean", normalize: bool = True, detach: bool = False) -> Tensor:
        y = self.exact_x if self.exact_y is None else self.exact_y
        return oracle.distances(self.exact_x, y.detach() if detach else y, metric, normalize)


@dataclass(frozen=True)
class Difference:
    """An error and how large it may be."""

    error: float
    allowed: float

    @property
    def share(self) -> float:
        """Of what is allowed; infinite for NaN."""
        return self.error / self.allowed if self.error == self.error else float("inf")


Check: TypeAlias = Callable[[Batch, Tolerance], Iterator[Difference]]


def make_batch(
    m: int, n: int | None, width: int, dtype: torch.dtype, device: torch.device, seed: int
) -> Batch:
    """Classes of about four rows that share more or less of one direction: pairs on both sides of every margin."""
    random = torch.Generator().manual_seed(seed)
    total = m + (n or 0)
    labels = torch.randint(0, total // 4, (total,), generator=random)
    common, centres, noise = (
        torch.randn(rows, width, generator=random, dtype=torch.float64) / width**0.5
        for rows in (1, total // 4, total)
    )
    shared = torch.rand(total, 1, generator=random, dtype=torch.float64) + 0.5
    rows = (shared * common + 0.6 * centres[labels] + 0.8 * noise).to(dtype)

    def leaf(part: Tensor) -> tuple[Tensor, Tensor]:
        exact = part.to(torch.float64, copy=True).requires_grad_()
        return part.to(device, copy=True).requires_grad_(), exact

    x, exact_x = leaf(rows[:m])
    y, exact_y = leaf(rows[m:]) if n is not None else (None, None)
    labels = labels.to(device)
    return Batch(x, labels[:m], y, labels[m:] if n is not None else None, exact_x, exact_y, random)


def loss(name: str, function: Callable[..., Tensor], options: dict[str, Any]) -> Check:
    """A mined or pair loss, query by query, and its gradients under random upstream gradients."""

    def check(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
        query_only = options.get("gradient") == "query"
        keywords = dict(batch.gallery)
        if query_only and batch.y is not None:
            keywords["gallery"] = batch.y.detach()
        d = batch.distances(options.get("metric", "euclidean"), options.get("normalize", True), query_only)
        expected, gap = oracle.LOSSES[name](d, *batch.masks)
        clear = gap > tolerance.gap
        upstream = torch.randn(len(expected), generator=batch.random, dtype=torch.float64) * clear
        value = function(batch.x, batch.labels, **keywords, **options, reduction="none")
        yield _values(value.detach().cpu().double()[clear], expected.detach()[clear], tolerance)
        torch.autograd.backward((value, expected), (upstream.to(value), upstream))
        yield _gradients(batch.x, batch.exact_x, tolerance)
        if batch.y is not None and batch.exact_y is not None and not query_only:
            yield _gradients(batch.y, batch.exact_y, tolerance)

    return check


def explicit_triplets(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    size = len(batch.exact_x) if batch.exact_y is None else len(batch.exact_y)
    anchors, others = (
        len(batch.exact_x),
        [torch.randint(size, (100,), generator=batch.random) for _ in range(2)],
    )
    listed = (torch.randint(anchors, (100,), generator=batch.random), *others)
    d = batch.distances()
    violation = d[listed[0], listed[1]] - d[listed[0], listed[2]] + oracle.TRIPLET_MARGIN
    clear = violation.detach().abs() > tolerance.gap
    anchor, positive, negative = (index[clear].to(batch.x.device) for index in listed)
    value = functional.triplet_margin_loss(
        batch.x, gallery=batch.y, triplets=(anchor, positive, negative), reduction="sum"
    )
    expected = violation.relu()[clear].sum()
    yield _values(value.detach().cpu().double()[None], expected.detach()[None], tolerance)
    torch.autograd.backward((value, expected))
    yield _gradients(batch.x, batch.exact_x, tolerance)


def mined_hard(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = mining.hard(batch.x, batch.labels, **batch.gallery)
    d = batch.distances().detach()
    for indices, members, sign in zip(found, batch.masks, (-1, 1), strict=True):
        ordered, columns, gap = oracle.ranked((sign * d).masked_fill(~members, torch.inf), 1)
        expected = torch.where(ordered.isinf(), -1, columns)[:, 0]
        clear = (gap > tolerance.gap) | gap.isnan()  # inf − inf: none at all
        yield _same(indices.cpu()[clear], expected[clear])


def mined_semihard(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = torch.stack(mining.semihard(batch.x, batch.labels, **batch.gallery)).cpu()
    d = batch.distances().detach()
    positive, negative = batch.masks
    gap = oracle.triplets(d, positive, negative, "semihard")[1]
    expected = []
    for anchor in (gap > tolerance.gap).nonzero()[:, 0].tolist():
        p, n = positive[anchor].nonzero()[:, 0], negative[anchor].nonzero()[:, 0]
        if len(p) and len(n):
            chosen = n[oracle.semihard_choice(d[anchor, n] - d[anchor, p][:, None])]
            expected.append(torch.stack([torch.full_like(p, anchor), p, chosen]))
    known = found[:, gap[found[0]] > tolerance.gap]
    order = (known[0] * d.shape[1] + known[1]).argsort()
    yield _same(known[:, order], torch.cat(expected, 1))


def nearest(metric: str, batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    alone = batch.y is None
    found = retrieval.topk(batch.x, batch.y, K, metric=metric, exclude_self=alone)  # type: ignore[arg-type]
    if metric == "dot":
        d = -(batch.exact_x @ (batch.exact_x if batch.exact_y is None else batch.exact_y).T).detach()
    else:
        d = batch.distances(metric, normalize=False).detach()
    if alone:
        d = d.fill_diagonal_(torch.inf)
    values, columns, gap = oracle.ranked(d, K)
    yield _values(found.values.cpu().double(), -values if metric == "dot" else values, tolerance)
    clear = gap > tolerance.gap
    yield _same(found.indices.cpu()[clear], columns[clear])


def distance(paired: bool, batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    if paired:
        shift = torch.arange(len(batch.x)).roll(1)
        value = functional.paired_distance(batch.x, batch.x[shift.to(batch.x.device)])
        expected = (batch.exact_x - batch.exact_x[shift]).square().sum(1).sqrt()
    else:
        value = functional.pairwise_distance(batch.x, batch.y)
        expected = batch.distances(normalize=False)
    upstream = torch.randn(expected.shape, generator=batch.random, dtype=torch.float64)
    yield _values(value.detach().cpu().double(), expected.detach(), tolerance)
    torch.autograd.backward((value, expected), (upstream.to(value), upstream))
    yield _gradients(batch.x, batch.exact_x, tolerance)


def _values(actual: Tensor, expected: Tensor, tolerance: Tolerance) -> Difference:
    error = (actual - expected).abs() / (1 + expected.abs())
    return Difference(float(error.max()) if error.numel() else 0.0, tolerance.value)


def _gradients(actual: Tensor, exact: Tensor, tolerance: Tolerance) -> Difference:
    if actual.grad is None or exact.grad is None:
        return Difference(float("inf"), tolerance.gradient)
    error = (actual.grad.cpu().double() - exact.grad).norm() / exact.grad.norm()
    return Difference(float(error), tolerance.gradient)


def _same(actual: Tensor, expected: Tensor) -> Difference:
    """The share of indices that differ; none may."""
    if actual.shape != expected.shape:
        return Difference(1.0, 1e-9)
    return Difference(float((actual != expected).double().mean()) if actual.numel() else 0.0, 1e-9)


_RANKED_LIST, _TRIPLET = functional.ranked_list_loss, functional.triplet_margin_loss
_RAW = {"normalize": False, "metric": "sqeuclidean"}


def _loss(name: str, function: Callable[..., Tensor], shown: str = "", **options: Any) -> tuple[str, Check]:
    return name + shown, loss(name, function, options)


CHECKS: dict[str, Check] = dict(
    [
        _loss("ranked_list_loss, query", _RANKED_LIST, gradient="query"),
        _loss("ranked_list_loss, both", _RANKED_LIST, gradient="both"),
        _loss("ranked_list_loss, exact", _RANKED_LIST, gradient="exact"),
        _loss("contrastive_loss", functional.contrastive_loss),
        _loss("contrastive_loss", functional.contrastive_loss, ", cosine", metric="cosine"),
        _loss("sup_con_loss", functional.sup_con_loss),
        _loss("triplet_margin_loss, hard", _TRIPLET, mining="hard"),
        _loss("triplet_margin_loss, semihard", _TRIPLET, mining="semihard"),
        _loss("triplet_margin_loss, all", _TRIPLET, mining="all"),
        _loss("triplet_margin_loss, all", _TRIPLET, ", raw squared", mining="all", **_RAW),
        _loss("triplet_margin_loss, band", _TRIPLET, mining="semihard_all"),
        ("triplet_margin_loss, listed", explicit_triplets),
        ("mining.hard", mined_hard),
        ("mining.semihard", mined_semihard),
        ("retrieval.topk", partial(nearest, "euclidean")),
        ("retrieval.topk, dot", partial(nearest, "dot")),
        ("paired_distance", partial(distance, True)),
        ("pairwise_distance", partial(distance, False)),
    ]
)

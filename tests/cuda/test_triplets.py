"""What small batches do not reach: several strips, classes too large for a block, selections of any length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fused_rank import TripletMarginLoss, mining, retrieval
from fused_rank.cuda import kernels

from .. import brute
from ..checks import check_against_oracle
from ..conftest import Backend
from ..inputs import Inputs, embed, make_inputs
from ..losses import TRIPLET, case_id
from ..oracle import distances

pytestmark = pytest.mark.parametrize("backend", ["cuda"], indirect=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
MININGS = ["semihard", "hard", "all", "semihard_all"]
SORTED_AT_ONCE = 512  # kChunk of csrc/cuda/rank_row.h


@pytest.fixture
def short_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of one row of tiles, however few columns there are, and few triplets at a time."""
    monkeypatch.setattr("fused_rank.cuda.strips._ELEMENTS", 1)
    monkeypatch.setattr("fused_rank.cuda.triplets._TRIPLETS", 50)


@dtypes
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("mining_name", MININGS)
def test_several_strips(
    mining_name: str,
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    short_strips: None,
    generator: torch.Generator,
) -> None:
    inputs = make_inputs(form, 150, 140, 10, dtype, generator)
    upstream = torch.rand(len(inputs.embeddings), generator=generator, dtype=torch.float64)
    check_against_oracle(TRIPLET, {"mining": mining_name}, inputs, upstream, backend.device, decided=0.1)


@dtypes
def test_several_strips_of_neighbours(
    dtype: torch.dtype, backend: Backend, short_strips: None, generator: torch.Generator
) -> None:
    x = torch.randn(150, 7, generator=generator, dtype=torch.float64).to(dtype)
    for metric in ("sqeuclidean", "dot"):
        _, indices = retrieval.topk(x, x, 9, metric=metric, normalize=False, exclude_self=True)
        y = x.double()
        expected = -y @ y.t() if metric == "dot" else distances(y, y, metric)
        assert indices.tolist() == brute.topk(expected, 9, exclude_self=True)


@pytest.mark.parametrize("soft_margin", [False, True], ids=["hinge", "soft"])
@pytest.mark.parametrize("mining_name", ["semihard", "all", "semihard_all"])
def test_classes_that_do_not_fit_a_block(
    mining_name: str, soft_margin: bool, backend: Backend, generator: torch.Generator
) -> None:
    """Few anchors, whose positives come in more than two chunks; fp64, where every decision is clear."""
    members = 2 * SORTED_AT_ONCE + 37
    labels = torch.tensor([0] * members + [1] * 30)[torch.randperm(members + 30, generator=generator)]
    x = embed(labels, 5, generator)
    inputs = Inputs(x[:12].contiguous(), labels[:12], x, labels)
    options = {"mining": mining_name, "soft_margin": soft_margin, "metric": "sqeuclidean"}
    upstream = torch.rand(12, generator=generator, dtype=torch.float64)
    check_against_oracle(TRIPLET, options, inputs, upstream, backend.device)
    if mining_name == "semihard":
        found = mining.semihard(inputs.embeddings, labels[:12], gallery=x, gallery_labels=labels)
        triplets = list(zip(*(t.tolist() for t in found), strict=True))
        assert triplets == brute.semihard(inputs, normalize=True)


def with_ties(
    rows: int, columns: int, dtype: torch.dtype, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Small integers, of which many distances are equal; a query and a gallery row are not finite."""
    x = torch.randint(-3, 4, (rows, 3), generator=generator).to(dtype)
    y = torch.randint(-3, 4, (columns, 3), generator=generator).to(dtype)
    x[1, 0], y[columns // 3, 1] = torch.nan, torch.inf
    return x, y


@dtypes
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize("k", [1, 2, 31, 257, 299, 300])
def test_neighbours_of_any_number(
    k: int, metric: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    x, y = with_ties(5, 300, dtype, generator)
    values, indices = retrieval.topk(x, y, k, metric=metric, normalize=False)
    expected = -x.double() @ y.double().t() if metric == "dot" else distances(x.double(), y.double())
    lost = ~(x.isfinite().all(1)[:, None] & y.isfinite().all(1))
    assert indices.tolist() == brute.topk(expected.masked_fill(lost, torch.inf), k)
    best = (-expected if metric == "dot" else expected).masked_fill(lost, torch.nan).gather(1, indices)
    torch.testing.assert_close(values.double(), best, rtol=1e-6, atol=0, equal_nan=True)


@dtypes
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_rows_that_are_not_finite_are_never_mined(
    form: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    """The same choices as without them, and none for them."""
    inputs = make_inputs(form, 140, 150, 6, dtype, generator)
    side = inputs.embeddings if inputs.gallery is None else inputs.gallery
    side[[3, 77, 138]] = torch.nan
    if inputs.gallery is not None:
        inputs.embeddings[5, 2] = torch.inf
    positive, negative = mining.hard(inputs.embeddings, inputs.labels, **inputs.keywords, normalize=False)
    triplets = mining.semihard(inputs.embeddings, inputs.labels, **inputs.keywords, normalize=False)

    queries = inputs.embeddings.isfinite().all(1)
    kept = side.isfinite().all(1).nonzero().flatten()
    clean = Inputs(inputs.embeddings[queries], _of(inputs.labels, queries))
    if inputs.gallery is not None:
        clean = Inputs(clean.embeddings, clean.labels, side[kept], _of(inputs.gallery_labels, kept))
    for found, expected in zip((positive, negative), brute.hard(clean), strict=True):
        wanted = torch.tensor(expected)
        assert torch.equal(found[queries], torch.where(wanted < 0, wanted, kept[wanted]))
        assert (found[~queries] == -1).all()
    names = queries.nonzero().flatten()
    expected = [(int(names[a]), int(kept[p]), int(kept[n])) for a, p, n in brute.semihard(clean)]
    assert list(zip(*(t.tolist() for t in triplets), strict=True)) == expected


def _of(labels: Tensor | None, rows: Tensor) -> Tensor:
    assert labels is not None
    return labels[rows]


@pytest.mark.parametrize("mining_name", MININGS)
def test_every_triplet_is_active_under_soft_margin(
    mining_name: str, backend: Backend, generator: torch.Generator
) -> None:
    """Softplus is positive even where it underflows: the mean over active triplets is the sum over their number."""
    labels = torch.arange(40) // 4
    x = 1e3 * embed(labels, 6, generator).float()
    options = {"mining": mining_name, "soft_margin": True, "metric": "sqeuclidean", "normalize": False}
    options["margin"] = 1e7 if mining_name == "semihard_all" else 0  # in a band none underflows
    total = TripletMarginLoss(**options, reduction="sum")(x, labels)
    active = TripletMarginLoss(**options, reduction="mean_active")(x, labels)
    d = distances(x.double(), x.double(), "sqeuclidean")
    same = labels[:, None] == labels
    counts = {"hard": 40, "semihard": 40 * 3, "all": 40 * 3 * 36}
    farther = (d[:, None, :] > d[:, :, None]) & ~same[:, None, :] & (same & ~torch.eye(40).bool())[:, :, None]
    counts["semihard_all"] = int(farther.sum())
    torch.testing.assert_close(active * counts[mining_name], total, rtol=1e-5, atol=0)


@dtypes
@pytest.mark.parametrize("nonzero", [0, 1, 7])
def test_tiles_without_coefficients_are_not_live(
    nonzero: int, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    (tile,) = kernels.ask("tile", dtype)
    first, rows, columns, stride = tile, tile + 3, 2 * tile + 1, 2 * tile + 4
    values = torch.full((rows, stride), torch.nan, dtype=dtype)  # beyond the columns anything
    values[:, :columns] = 0
    places = torch.stack([torch.randint(n, (nonzero,), generator=generator) for n in (rows, columns)])
    values[tuple(places)] = -1e-30
    live = torch.full((4, 3), 9, dtype=torch.uint8)  # 4 tiles of anchors, of which the strip has two
    kernels.run("live_tiles", [values, live], [first, rows, 0, columns, stride, 4 * tile])
    expected = torch.full_like(live, 9)
    expected[1:3] = 0
    expected[tuple(places // tile + torch.tensor([[1], [0]]))] = 1
    assert torch.equal(live, expected)


@dtypes
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_gradient_of_few_active_triplets(
    form: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    """Classes far apart but for two, in different tiles: most tiles have nothing to give."""
    labels = torch.arange(300) // 6
    x = 30 * labels[:, None] + torch.rand(300, 3, generator=generator, dtype=torch.float64)
    x[294:] = x[:6] + 0.3
    inputs = Inputs(x.to(dtype), labels)
    if form == "two-set":
        inputs = Inputs(inputs.embeddings[:6], labels[:6], inputs.embeddings, labels)
    options = {"mining": "all", "normalize": False, "margin": 1.0}
    upstream = torch.rand(len(inputs.embeddings), generator=generator, dtype=torch.float64)
    check_against_oracle(TRIPLET, options, inputs, upstream, backend.device)

"""What the CUDA kernels get to see: packed rows, their centres, and the way back from a gradient. No kernel runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fused_rank.cuda.operand import Operand, Packed, pack
from fused_rank.gpu.order import LabelOrder, order_by_label

ROWS, WIDTH = 600, 30
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def spread(generator: torch.Generator, rows: int = ROWS) -> Tensor:
    return torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64)


def clusters(generator: torch.Generator, rows: int = ROWS) -> Tensor:
    """Five tight ones, far apart."""
    middle = 10 * torch.randn(5, WIDTH, generator=generator, dtype=torch.float64)
    return middle[torch.arange(rows) % 5] + 1e-4 * spread(generator, rows)


def far_away(generator: torch.Generator, rows: int = ROWS) -> Tensor:
    return 1000 + spread(generator, rows)


BATCHES = [spread, clusters, far_away]


def packed_of(x: Tensor, *, unit_rows: bool, gallery: Tensor | None = None) -> tuple[Packed, LabelOrder]:
    others = x if gallery is None else gallery
    labels = torch.arange(len(x)) % 7
    other_labels = None if gallery is None else torch.arange(len(others)) % 7
    order = order_by_label(labels, other_labels, len(x), len(others), x.device)
    return pack(x, gallery, order, unit_rows=unit_rows), order


def centre_of(side: Operand) -> Tensor:
    centre = side.side.centre
    return torch.zeros(side.size, dtype=torch.int64) if centre is None else centre.long()


def rows_again(side: Operand) -> Tensor:
    """The rows, from all that was kept of them."""
    rows = side.side.rows.double()
    if side.side.low is not None:
        rows = rows + side.side.low
    return rows[:, : side.source.width] + side.centres.at[centre_of(side)]


def squares(packed: Packed) -> Tensor:
    """Squared distances [M, N] in sorted order, as a kernel puts them together, without its rounding."""
    x, y = packed.query, packed.gallery
    own, other = centre_of(x), centre_of(y)
    i, j = torch.arange(x.size)[:, None], torch.arange(y.size)
    product = x.side.rows.double() @ y.side.rows.double().t()
    norms = x.side.norm.double()[other, i] + y.side.norm.double()[own[:, None], j]
    return norms + packed.gap.double()[own][:, other] - 2 * product


def exact_squares(packed: Packed) -> Tensor:
    x, y = (side.source.exact[side.side.index] for side in (packed.query, packed.gallery))
    return (x[:, None] - y).square().sum(2)


@pytest.mark.parametrize("unit_rows", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", BATCHES)
def test_nothing_of_a_row_is_lost(
    batch: type, dtype: torch.dtype, unit_rows: bool, generator: torch.Generator
) -> None:
    packed, _ = packed_of(batch(generator).to(dtype), unit_rows=unit_rows)
    side = packed.query
    expected = side.source.exact[side.side.index]
    lost = 1e-13 if dtype != torch.float64 else 1e-15  # fp32 twice holds 48 bits, of the centred row
    assert (rows_again(side) - expected).abs().max() <= lost * expected.abs().max()
    assert side.side.rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert side.side.rows.shape[1] == 32
    assert (side.side.rows[:, WIDTH:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", BATCHES)
def test_distances_keep_their_digits(batch: type, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Relative to the rows' distances from their centres, not to their norms."""
    packed, _ = packed_of(
        batch(generator).to(dtype), unit_rows=False, gallery=batch(generator, 300).to(dtype)
    )
    exact = exact_squares(packed)
    error = (squares(packed) - exact).abs()
    assert (error <= 8 * torch.finfo(dtype).eps * exact.clamp(min=1e-9)).float().mean() > 0.98


def test_tight_clusters_have_centres_of_their_own(generator: torch.Generator) -> None:
    packed, _ = packed_of(clusters(generator).float(), unit_rows=False)
    assert packed.query.centres.count == 16
    assert packed.query.centres.used.sum() == 6
    assert set(centre_of(packed.query).tolist()) == {1, 2, 3, 4, 5}
    assert packed.query.side.rows.abs().max() < 1e-2


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(400, WIDTH),
        torch.zeros(400, WIDTH),
        torch.full((400, WIDTH), torch.nan),
        torch.eye(400, WIDTH),
    ],
    ids=["ones", "zeros", "nan", "eye"],
)
def test_degenerate_batches_pack(x: Tensor) -> None:
    packed, _ = packed_of(x, unit_rows=False)
    side = packed.query.side
    assert side.rows.isfinite().all()
    assert side.norm.isfinite().all()
    assert packed.gap.isfinite().all()


@pytest.mark.parametrize("batch", [spread, clusters])
def test_copies_are_packed_alike(batch: type, generator: torch.Generator) -> None:
    x = batch(generator, 300).float().repeat(3, 1)
    packed, order = packed_of(x, unit_rows=True)
    side, place = packed.query.side, packed.query.place
    assert torch.equal(order.query[place], torch.arange(900))
    for values in (side.rows[place], side.norm.t()[place], centre_of(packed.query)[place].unsqueeze(1)):
        assert torch.equal(values[:300], values[300:600])
        assert torch.equal(values[:300], values[600:])


def test_small_integers_stay_exact(generator: torch.Generator) -> None:
    x = torch.randint(-9, 10, (400, WIDTH), generator=generator).float()
    packed, _ = packed_of(x, unit_rows=False)
    assert torch.equal(squares(packed), exact_squares(packed))


def test_rows_that_are_not_finite_are_zero_and_marked(generator: torch.Generator) -> None:
    x, y = spread(generator, 20).float(), spread(generator, 12).float()
    x[3, 5], y[7, 0] = torch.nan, -torch.inf
    packed, _ = packed_of(x, unit_rows=True, gallery=y)
    for side, bad in ((packed.query, 3), (packed.gallery, 7)):
        assert (side.side.finite == 0).nonzero().flatten().tolist() == [int(side.place[bad])]
        assert (side.side.rows[side.place[bad]] == 0).all()
        assert side.lost.all()
    only, _ = packed_of(x, unit_rows=True, gallery=spread(generator, 12).float())
    assert only.query.lost.nonzero().flatten().tolist() == [3]
    assert only.gallery.lost.sum() == 0


def test_lengths_at_the_ends_of_fp64_are_normalised(generator: torch.Generator) -> None:
    x = spread(generator, 5)
    unit = torch.nn.functional.normalize(x)
    scaled = x * torch.tensor([1e-300, 1e-200, 1.0, 1e200, 1e300], dtype=torch.float64)[:, None]
    scaled[0, 0] = 0
    unit[0] = torch.nn.functional.normalize(scaled[:1] * 1e300)[0]
    packed, _ = packed_of(scaled, unit_rows=True)
    torch.testing.assert_close(packed.query.source.exact, unit, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("unit_rows", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("batch", [spread, clusters])
def test_the_gradient_comes_back(batch: type, unit_rows: bool, generator: torch.Generator) -> None:
    """Coefficients of all pairs, multiplied out as the kernels do it, against autograd of Σ c_ij |x_i − y_j|² / 2."""
    x, y = batch(generator).requires_grad_(), batch(generator, 300)
    packed, order = packed_of(x, unit_rows=unit_rows, gallery=y)
    c = torch.rand(ROWS, 300, generator=generator, dtype=torch.float64)
    normal = torch.nn.functional.normalize if unit_rows else torch.nn.Identity()
    differences = normal(x)[:, None] - normal(y)
    (0.5 * c * differences.square().sum(2)).sum().backward()
    side, other = packed.query, packed.gallery
    sorted_c = c[order.query][:, order.gallery]
    mass = torch.stack([sorted_c[:, centre_of(other) == e].sum(1) for e in range(other.centres.count)])
    pulled = side.own_pull(mass) - (sorted_c @ other.side.rows)[:, :WIDTH]
    assert x.grad is not None
    assert (side.gradient(pulled) - x.grad).norm() < 1e-11 * x.grad.norm()

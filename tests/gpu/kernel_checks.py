"""Small checks of the kernels against the oracle: ragged in every direction, more than one tile, seconds at most."""

from __future__ import annotations

import torch

from fused_rank import functional, mining, retrieval

from .. import brute
from ..checks import check_against_oracle
from ..inputs import Inputs, make_inputs
from ..losses import CONTRASTIVE, Loss, Options
from ..oracle import distances


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def loss_check(
    loss: Loss,
    options: Options,
    form: str = "self",
    dtype: torch.dtype = torch.float32,
    shape: tuple[int, int, int] = (70, 131, 19),
) -> None:
    """The conformance test's check; 70 × 131 × 19: ragged in every direction, and more than one tile."""
    random = generator()
    m, n, width = shape
    inputs = make_inputs(form, *((n, m) if form == "self" else (m, n)), width, dtype, random, per_class=5)
    upstream = torch.randn(len(inputs.embeddings), generator=random, dtype=torch.float64)
    options = {**loss.geometry(normalize=True), **options}
    check_against_oracle(loss, options, inputs, upstream, "cpu", decided=0.3)


def near_copies_check(dtype: torch.dtype = torch.float32, shape: tuple[int, int, int] = (66, 66, 19)) -> None:
    """Rows in pairs that hardly differ: a product alone has no digits left for their distances."""
    random = generator()
    rows, _, width = shape
    x = (
        make_inputs("self", rows, 0, width, torch.float64, random)
        .embeddings[: rows // 2]
        .repeat_interleave(2, 0)
    )
    x[1::2] += 1e-4 * torch.randn(rows // 2, width, generator=random, dtype=torch.float64)
    near = Inputs(x.to(dtype), torch.arange(len(x)) // 2)
    upstream = torch.randn(len(x), generator=random, dtype=torch.float64)
    check_against_oracle(CONTRASTIVE, {"neg_margin": 0.0, "power": 1}, near, upstream, "cpu", decided=0.0)


def copies_check() -> None:
    """Distances between copies are 0, and so is their gradient, whatever becomes a fused multiply-add."""
    x = torch.randn(40, 19, generator=generator()).requires_grad_()
    d = functional.paired_distance(x, x.detach().clone(), normalize=True)
    d.sum().backward()
    assert d.eq(0).all()
    assert x.grad is not None
    assert x.grad.eq(0).all()


def tight_check() -> None:
    """Rows that are all much alike, in 16 bits: the pull of a pair is a small difference of large terms."""
    random = generator()
    noise = torch.randn(90, 19, generator=random, dtype=torch.float64)
    x = torch.randn(19, generator=random, dtype=torch.float64) + 0.15 * noise
    tight = Inputs(x.bfloat16(), torch.arange(90) // 2)
    upstream = torch.randn(90, generator=random, dtype=torch.float64)
    options = {"normalize": False, "power": 1, "neg_margin": 0.0}
    check_against_oracle(CONTRASTIVE, options, tight, upstream, "cpu")


def lattice(rows: int = 140) -> Inputs:
    """Points with small integer coordinates: many copies, and ties in nearly every row."""
    random = generator()
    x = torch.randint(-2, 3, (rows, 3), generator=random).float()
    return Inputs(x, torch.randint(0, rows // 5, (rows,), generator=random))


def hard_check() -> None:
    inputs = lattice()
    positive, negative = mining.hard(inputs.embeddings, inputs.labels, normalize=False)
    assert (positive.tolist(), negative.tolist()) == brute.hard(inputs)


def semihard_check() -> None:
    inputs = lattice(80)
    triplets = mining.semihard(inputs.embeddings, inputs.labels, normalize=False)
    assert list(zip(*(t.tolist() for t in triplets), strict=True)) == brute.semihard(inputs)


def topk_check(k: int, exclude_self: bool = False) -> None:
    inputs = lattice(150)
    x, y = inputs.embeddings[:70], inputs.embeddings if exclude_self else inputs.embeddings[9:]
    if exclude_self:
        x = y
    found = retrieval.topk(x, None if exclude_self else y, k, exclude_self=exclude_self).indices
    d = distances(x.double(), y.double())
    if exclude_self:
        d.fill_diagonal_(torch.inf)
    assert found.tolist() == brute.topk(d, k)

"""torch.library.opcheck on every operator of every backend: schema, aliasing and fakes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fused_rank.ops.dispatch import BACKENDS

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import case_id

Arguments = tuple[Any, ...]
NAMESPACES = {
    "cpp": "fused_rank",
    "triton": "fused_rank_triton",
    "cuda": "fused_rank_cuda",
    "eager": "fused_rank_eager",
}
RANKED_LIST = [1.2, 0.4, 10.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0]
EXACT = [1.2, 0.4, 10.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1e-3]
CONTRASTIVE = [0.0, 1.0, 2.0]
UTILITIES = (
    "test_schema",
    "test_faketensor",
)  # autograd is registered by autograd.Function, outside the operators

forms = pytest.mark.parametrize("form", ["self", "two-set", "plain"])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=case_id)


def operator(backend: Backend, name: str) -> Any:
    return getattr(getattr(torch.ops, NAMESPACES[backend.name]), name).default


def check(backend: Backend, name: str, *arguments: Any) -> Any:
    op = operator(backend, name)
    served = BACKENDS[backend.name].dtypes
    dtype = next(t.dtype for t in arguments if isinstance(t, Tensor))
    if served is not None and dtype not in served:
        pytest.skip(f"{backend.name} does not serve {dtype}")
    torch.library.opcheck(op, arguments, test_utils=UTILITIES)
    return op(*arguments)


def data(form: str, dtype: torch.dtype, generator: torch.Generator, device: str) -> tuple[Tensor | None, ...]:
    inputs: Inputs = make_inputs(form, 70, 133, 9, dtype, generator).to(device)
    return inputs.embeddings, inputs.labels, inputs.gallery, inputs.gallery_labels


@forms
@dtypes
@pytest.mark.parametrize(
    ("term", "params", "fused"),
    [
        ("ranked_list", RANKED_LIST, "query"),
        ("ranked_list", RANKED_LIST, "none"),
        ("ranked_list", EXACT, "none"),
        ("contrastive", CONTRASTIVE, "both"),
        ("contrastive", CONTRASTIVE, "none"),
    ],
)
def test_pair_operators(
    term: str,
    params: list[float],
    fused: str,
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    given = data(form, dtype, generator, backend.device)
    rows, *kept = check(backend, "pair_forward", *given, None, term, params, "euclidean", True, fused, False)
    channels = len(rows) // 3
    grad = torch.ones(channels, 70, dtype=rows.dtype, device=rows.device)
    for need_x, need_gallery in ((True, form != "self" and fused != "query"), (True, False)):
        check(
            backend,
            "pair_backward",
            grad,
            *given,
            None,
            term,
            params,
            "euclidean",
            True,
            fused == "query",
            False,
            *kept,
            need_x,
            need_gallery,
            False,
        )


@dtypes
@pytest.mark.parametrize("fused", ["query", "gallery", "both"])
@pytest.mark.parametrize(
    ("term", "params", "inputs"), [("sup_con", [-4.0], 0), ("softplus_negatives", [-4.0, 2.0], 1)]
)
def test_gradient_of_two_sets_made_ahead(
    term: str, params: list[float], inputs: int, fused: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    backend = Backend("cpp", "cpu")
    given = data("two-set", dtype, generator, "cpu")
    common = (term, params, "cosine", True)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    own = torch.randn(inputs, 70, generator=generator, dtype=wide) if inputs else None
    rows, *kept = check(backend, "pair_forward", *given, own, *common, fused, False)
    sides = fused != "gallery", fused != "query"
    check(
        backend,
        "pair_backward",
        torch.ones_like(rows[:1]),
        *given,
        own,
        *common,
        False,
        False,
        *kept,
        *sides,
        bool(inputs),
    )


@pytest.mark.parametrize("form", ["self", "two-set", "plain", "two-set symmetric", "plain symmetric"])
@dtypes
@pytest.mark.parametrize(
    ("term", "params", "metric", "inputs"),
    [
        ("sup_con", [-10.0], "cosine", 0),
        ("sup_con", [1.0], "dot", 0),
        ("negatives_lse", [-10.0, 10.0], "cosine", 0),
        ("softplus_negatives", [-10.0, 2.0], "cosine", 1),
        ("softplus_positives", [-10.0, 10.0], "cosine", 1),
    ],
)
def test_softmax_operators(
    term: str,
    params: list[float],
    metric: str,
    inputs: int,
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    symmetric = form.endswith("symmetric")
    given = data(form.split()[0], dtype, generator, backend.device)
    count = 70 + (len(given[2]) if symmetric else 0)  # type: ignore[arg-type]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    own = torch.randn(inputs, count, generator=generator, dtype=wide).to(backend.device) if inputs else None
    rows, *kept = check(backend, "pair_forward", *given, own, term, params, metric, False, "none", symmetric)
    assert rows.shape == (3, count)
    options = (own, term, params, metric, False, False, symmetric)
    for needs in ((True, True, True), (True, False, False), (False, True, False), (False, False, True)):
        check(backend, "pair_backward", torch.ones_like(rows[:1]), *given, *options, *kept, *needs)


@forms
@dtypes
@pytest.mark.parametrize("mining", ["hard", "semihard", "all", "semihard_all"])
def test_triplet_operators(
    mining: str, form: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    given = data(form, dtype, generator, backend.device)
    options = (mining, 0.2, False, "euclidean", True)
    rows, state, live = check(backend, "triplet_forward", *given, *options)
    grad = torch.ones(1, 70, dtype=rows.dtype, device=rows.device)
    check(backend, "triplet_backward", grad, *given, *options, state, live, rows, True, form != "self")
    if form != "self" and mining in ("all", "semihard_all"):
        rows, state, live = check(backend, "triplet_forward", *given, *options, True)
        assert rows.shape == (3, 70 + len(given[2]))
        check(backend, "triplet_backward", rows[:1], *given, *options, state, live, rows, True, True, True)


@forms
@dtypes
def test_mining_operators(
    form: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    given = data(form, dtype, generator, backend.device)
    check(backend, "mine_hard", *given, "euclidean", True)
    if form != "self":
        check(backend, "mine_hard", *given, "euclidean", True, True)
        check(backend, "mine_semihard", *given, "euclidean", True, True)
    check(backend, "mine_semihard", *given, "euclidean", True)


@dtypes
def test_topk_operator(dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    queries, _, gallery, _ = data("two-set", dtype, generator, backend.device)
    check(backend, "topk", queries, gallery, 5, "dot", False, False)
    check(backend, "topk", queries, None, 5, "euclidean", True, True)


@dtypes
def test_indexed_distance_operators(dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    x, _, y, _ = data("two-set", dtype, generator, backend.device)
    i, j = (torch.randint(0, 70, (2, 40), generator=generator)).to(backend.device)
    for gallery, first, second in ((y, i, j), (None, i, j), (x, None, None)):
        d = check(backend, "indexed_distance", x, gallery, first, second, "euclidean", True)
        check(
            backend,
            "indexed_distance_backward",
            torch.ones_like(d),
            x,
            gallery,
            first,
            second,
            "euclidean",
            True,
            True,
            gallery is not None,
        )


@forms
@dtypes
def test_row_operators(form: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    given = data(form, dtype, generator, backend.device)
    x, labels, gallery, gallery_labels = given
    assert x is not None
    check(backend, "rank_positives", *given, [1, 10], "dot", False)
    limit = torch.rand(70, dtype=torch.promote_types(dtype, torch.float32), generator=generator)
    check(backend, "find_partner", *given, False, True, limit.to(x.device), None, "euclidean", True)
    check(backend, "triplet_counts", *given, 0.2, "euclidean", True)
    check(backend, "distance_histogram", *given, [0.1, 0.5, 1.0], "cosine", True)
    if labels is None:
        pairs = 70
    else:
        others = labels if gallery_labels is None else gallery_labels
        pairs = int((labels[:, None] == others).sum()) - 70 * (gallery is None)
    draws = torch.rand(pairs, dtype=torch.float64, generator=generator).to(x.device)
    check(backend, "sample_negatives", *given, draws, 0.5, 1.4)


def test_every_operator_is_checked() -> None:
    from fused_rank.ops.schemas import SCHEMAS

    tested = {
        "pair_forward",
        "pair_backward",
        "triplet_forward",
        "triplet_backward",
        "mine_hard",
        "mine_semihard",
        "topk",
        "indexed_distance",
        "indexed_distance_backward",
        "rank_positives",
        "find_partner",
        "sample_negatives",
        "triplet_counts",
        "distance_histogram",
    }
    assert set(SCHEMAS) == tested

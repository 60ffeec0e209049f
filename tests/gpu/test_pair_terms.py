"""Every term in every form of the pair operators: self, two-set, symmetric, inner products, wide rows, clusters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from .pair_checks import INNER_PRODUCTS, TERMS, Case, check

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("triton_kernels")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("term", TERMS)
def test_both_ways(term: str, dtype: torch.dtype) -> None:
    check(replace(TERMS[term], form="symmetric"), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", INNER_PRODUCTS, ids=str)
def test_inner_products(case: Case, dtype: torch.dtype) -> None:
    check(case, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        TERMS["contrastive"],
        replace(TERMS["sup_con"], form="symmetric"),
        INNER_PRODUCTS[0],
        replace(TERMS["softplus_positives"], form="two-set"),
    ],
    ids=str,
)
def test_wide_rows(case: Case, dtype: torch.dtype) -> None:
    check(replace(case, shape=(70, 75, 135 if dtype == torch.float32 else 270)), dtype)


@pytest.mark.parametrize("lost", [3, 100])
def test_a_row_that_is_not_finite(lost: int) -> None:
    check(replace(TERMS["sup_con"], form="symmetric", lost=lost))


def test_rows_without_pairs() -> None:
    check(replace(TERMS["sup_con"], per_class=145))
    check(replace(TERMS["negatives_lse"], per_class=145))
    check(replace(TERMS["softplus_negatives"], per_class=145))
    check(replace(TERMS["softplus_positives"], per_class=1))
    check(replace(TERMS["lifted"], per_class=1))
    check(replace(TERMS["circle"], per_class=145))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_tight_clusters(form: str, dtype: torch.dtype) -> None:
    """Pairs of a cluster by the product of local rows."""
    steep = replace(TERMS["contrastive"], params=(0.0, 0.5, 1.0), form=form, clusters=5)
    near = 1e-3 if dtype == torch.float32 else 0.05
    check(replace(steep, shape=(260, 257, 19), width_between=near), dtype)


def test_wide_tight_clusters() -> None:
    steep = replace(TERMS["contrastive"], params=(0.0, 0.5, 1.0), clusters=5)
    check(replace(steep, shape=(257, 0, 130)))


@pytest.mark.parametrize(("precision", "times"), [("ieee", 0.5), ("tf32", 300)])
def test_precisions_that_are_asked_for(precision: str, times: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSED_RANK_FP32_PRECISION", precision)
    for case in (TERMS["contrastive"], replace(TERMS["sup_con"], form="two-set", shape=(70, 75, 135))):
        check(case, times=times)
    if precision == "tf32":
        with pytest.raises(AssertionError, match="is off by"):  # ten bits
            check(TERMS["contrastive"])

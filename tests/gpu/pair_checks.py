"""Pair operators on the kernels against the eager rows in fp64: every form that an operator has, not only those that a
public loss asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fused_rank.ops.schemas import PAIR_CHANNELS, PAIR_INPUTS

FORMS = ("self", "two-set", "symmetric")
VALUE = 1e-5
GRADIENT = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 8e-4}  # relative L2


@dataclass(frozen=True)
class Case:
    """A call of the pair operators on random rows."""

    term: str
    params: tuple[float, ...]
    metric: str = "cosine"
    form: str = "self"  # of FORMS
    normalize: bool = True
    fused: str = "none"  # "query": the gradient comes with the statistics
    query_only: bool = False  # the gallery, in self form too, counts as constant
    shape: tuple[int, int, int] = (70, 75, 19)  # M, N, D
    per_class: int = 5
    clusters: int = 0  # that the rows have collapsed into
    width_between: float = 1e-3  # of rows of a cluster
    lost: int | None = None  # a row that is not finite
    uneven: bool = False  # inputs are far above every distance for half the classes, far below for the others

    def __str__(self) -> str:
        return f"{self.term} {self.metric} {self.form}{' wide' * (self.shape[2] > 128)}"

    def made(self, dtype: torch.dtype) -> dict[str, Any]:
        """x, labels, gallery, gallery labels, inputs."""
        m, n, width = self.shape
        random = torch.Generator().manual_seed(3)
        rows = torch.randn(m + n, width, generator=random, dtype=torch.float64) / width**0.5
        if self.clusters:
            centres = torch.randn(self.clusters, width, generator=random, dtype=torch.float64)
            place = torch.randint(self.clusters, (m + n,), generator=random)
            rows = centres[place] / width**0.5 + self.width_between * rows
        labels = torch.randint(0, (m + n) // self.per_class, (m + n,), generator=random)
        if self.lost is not None:
            rows[self.lost] = torch.nan
        rows = rows.to(dtype)
        two_set = self.form != "self"
        count = m + n if self.form == "symmetric" else m
        inputs = (
            1 + torch.randn(PAIR_INPUTS[self.term], count, generator=random)
            if PAIR_INPUTS[self.term]
            else None
        )
        if inputs is not None and self.uneven:
            inputs[:] = torch.where(labels[:count] < labels.median(), 10.0, -10.0)
        gallery = (rows[m:], labels[m:]) if two_set else (None, None)
        return {"x": rows[:m], "labels": labels[:m], "gallery": gallery, "inputs": inputs}


def run(case: Case, operators: Any, dtype: torch.dtype, *, exact: bool) -> dict[str, Tensor]:
    """Rows and all gradients of the case, by the operators of a backend; `exact` widens the same numbers to fp64."""
    given = case.made(dtype)

    def widened(values: Tensor | None) -> Tensor | None:
        return values.double() if exact and values is not None else values

    (gallery, gallery_labels), inputs = given["gallery"], widened(given["inputs"])
    sides = (widened(given["x"]), given["labels"], widened(gallery), gallery_labels, inputs)
    common = (case.term, list(case.params), case.metric, case.normalize)
    symmetric = case.form == "symmetric"
    rows, *kept = operators.pair_forward(*sides, *common, case.fused, symmetric)
    upstream = torch.randn(
        PAIR_CHANNELS[case.term], rows.shape[1], generator=torch.Generator().manual_seed(4)
    )
    needed = (True, gallery is not None and not case.query_only, inputs is not None)
    ends = (case.query_only, symmetric)
    grads = operators.pair_backward(upstream.to(rows), *sides, *common, *ends, *kept, *needed)
    return dict(zip(("rows", "grad x", "grad gallery", "grad inputs"), (rows, *grads), strict=True))


def check(case: Case, dtype: torch.dtype = torch.float32, times: float = 1.0) -> None:
    """The kernels agree with fp64, in values row by row and in gradients as a whole; NaN is where NaN should be.

    `times`: how many times the usual error is allowed.
    """
    exact = run(case, torch.ops.fused_rank_eager, dtype, exact=True)
    for name, got in run(case, torch.ops.fused_rank_triton, dtype, exact=False).items():
        expected = exact[name]
        assert got.shape == expected.shape, name
        assert torch.equal(got.isnan(), expected.isnan()), name
        gap, expected = (got.double() - expected).nan_to_num(), expected.nan_to_num()
        if case.lost is not None and name == "rows":  # what a lost row counts is nobody's business
            gap, expected = (values[: PAIR_CHANNELS[case.term]] for values in (gap, expected))
        if name == "rows":
            error, allowed = (gap.abs() / (1 + expected.abs())).max().item() if gap.numel() else 0.0, VALUE
        else:
            error = (gap.norm() / expected.norm().clamp(min=1e-30)).item()
            allowed = GRADIENT[dtype] if "input" not in name else VALUE
        assert error <= times * allowed, f"{case} {name} is off by {error:.1e}"


TERMS = {
    "ranked_list": Case("ranked_list", (1.2, 0.4, 10.0, 5.0, 1.0, 1.0, 1.0, 0.0, 0.0), "euclidean"),
    "contrastive": Case("contrastive", (0.4, 1.3, 2.0), "euclidean"),
    "sup_con": Case("sup_con", (-1 / 0.1,)),
    "negatives_lse": Case("negatives_lse", (-1 / 0.07, 2.0)),
    "softplus_negatives": Case("softplus_negatives", (-1 / 0.3, math.inf)),
    "softplus_positives": Case("softplus_positives", (-1 / 0.5, 1.0)),
    "multi_similarity": Case("multi_similarity", (2.0, 50.0, 0.5, 1.0)),
    "circle": Case("circle", (0.4, 80.0)),
    "lifted": Case("lifted", (0.0, 1.0), "euclidean"),
    "margin": Case("margin", (0.2,), "euclidean"),
}
INNER_PRODUCTS = [
    Case(term, (1.0, second), "dot", form, normalize=False)
    for term, second, form in (
        ("negatives_lse", 0.5, "symmetric"),
        ("softplus_positives", 0.5, "two-set"),
        ("softplus_negatives", math.inf, "two-set"),
    )
]

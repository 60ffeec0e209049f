"""Operators on small ragged batches: a few tiles of every kernel, compared with the eager operators in fp64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..gpu import ptx_cases
from ..gpu.ptx_cases import RANKED_LIST, STREAMED, Case, Inputs, Outputs, Shape, error

# just over a tile of 128 rows in fp32, of 64 in fp64
SHAPES = {torch.float32: Shape(150, 133, 20), torch.float64: Shape(70, 67, 10)}
# for kernels with a block for each anchor, of which few will do
FEW_ANCHORS = {torch.float32: Shape(24, 133, 20), torch.float64: Shape(24, 67, 10)}


class Wide(Inputs):
    """All of them in fp64."""

    def __init__(self, shape: Shape, dtype: torch.dtype, exact: bool) -> None:
        super().__init__(shape, dtype, exact=True)


class Collapsed(Inputs):
    """Rows that are nearly copies of one of three, far from each other."""

    def __init__(self, shape: Shape, dtype: torch.dtype, exact: bool) -> None:
        super().__init__(shape, torch.float64, exact=True)
        places = 5 * torch.randn(
            3, shape.width, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        for name in ("x", "gallery"):
            rows: Tensor = getattr(self, name)
            close = (places[torch.arange(len(rows)) % 3] + 1e-3 * rows).to(dtype)
            setattr(self, name, close.double() if exact else close)
        self.exact = exact or dtype == torch.float64


class Chunked(Wide):
    """Few anchors with more positives than a block sorts at a time, `kChunk` of rank_row.h."""

    def __init__(self, shape: Shape, dtype: torch.dtype, exact: bool) -> None:
        super().__init__(Shape(4, 560, 6), dtype, exact)
        self.labels = torch.zeros_like(self.labels)
        self.gallery_labels = torch.arange(560) // 540


def pair(term: str, params: list[float], *, two_set: bool, query_only: bool) -> Case:
    """One direction of a pair sweep on whatever inputs are given."""

    def run(ops: Any, given: Inputs) -> Outputs:
        sides, common = given.sides(two_set), (None, term, params, "euclidean", True)
        rows, *kept = ops.pair_forward(*sides, *common, "query" if query_only else "none", False)
        up = given.upstream(rows.shape[0] // 3, given.shape.rows)
        grad_x, grad_y, _ = ops.pair_backward(
            up, *sides, *common, query_only, False, *kept, True, two_set, False
        )
        return {"rows": rows, "grad x": grad_x, "grad gallery": grad_y}

    return run


def symmetric(term: str, params: list[float], metric: str) -> Case:
    """Both directions of a two-set sweep, with inputs where the term takes them."""

    def run(ops: Any, given: Inputs) -> Outputs:
        from fused_rank.ops.schemas import PAIR_INPUTS

        sides = given.sides(True)
        total = given.shape.rows + given.shape.columns
        inputs = given.upstream(PAIR_INPUTS[term], total) if PAIR_INPUTS[term] else None
        common = (inputs, term, params, metric, metric == "cosine")
        rows, *kept = ops.pair_forward(*sides, *common, "none", True)
        up = given.upstream(rows.shape[0] // 3, total)
        found = ops.pair_backward(up, *sides, *common, False, True, *kept, True, True, inputs is not None)
        names = ("grad x", "grad gallery", "grad inputs")
        return {"rows": rows, **dict(zip(names, found, strict=True))}

    return run


class Setting(NamedTuple):
    case: Case
    dtype: torch.dtype = torch.float32
    inputs: Callable[..., Inputs] = Inputs


CASES: dict[str, Case] = {
    "ranked_list": pair("ranked_list", list(RANKED_LIST), two_set=False, query_only=True),
    "ranked_list streamed": pair("ranked_list", list(STREAMED), two_set=True, query_only=False),
    "contrastive": pair("contrastive", [0.0, 1.0, 2.0], two_set=False, query_only=False),
    **{name: case for name, case in ptx_cases.CASES.items() if name not in ptx_cases.PAIRS},
}
SETTINGS = {name: Setting(case) for name, case in CASES.items()} | {
    "fp64 ranked_list": Setting(CASES["ranked_list"], torch.float64, Wide),
    "fp64 contrastive": Setting(CASES["contrastive"], torch.float64, Wide),
    "fp64 triplet all": Setting(CASES["triplet all"], torch.float64, Wide),
    "fp64 triplet semihard": Setting(CASES["triplet semihard"], torch.float64, Wide),
    "fp64 collapsed contrastive": Setting(CASES["contrastive"], torch.float64, Collapsed),
    "fp64 mine_hard": Setting(CASES["mine_hard"], torch.float64, Wide),
    "fp64 topk": Setting(CASES["topk many"], torch.float64, Wide),
    "soft margin, all": Setting(ptx_cases.triplet("all", two_set=False, soft=True)),
    "soft margin, semihard": Setting(ptx_cases.triplet("semihard", two_set=True, soft=True)),
    "chunked classes, all": Setting(ptx_cases.triplet("all", two_set=True), torch.float64, Chunked),
    "chunked classes, semihard": Setting(ptx_cases.triplet("semihard", two_set=True), torch.float64, Chunked),
    "symmetric": Setting(symmetric("sup_con", [-10.0], "cosine")),
    "inputs, inner products": Setting(symmetric("softplus_positives", [0.1, 0.0], "dot")),
    "collapsed ranked_list": Setting(
        pair("ranked_list", list(RANKED_LIST), two_set=False, query_only=False), inputs=Collapsed
    ),
    "collapsed contrastive": Setting(
        pair("contrastive", [0.0, 1.0, 2.0], two_set=True, query_only=False), inputs=Collapsed
    ),
    "collapsed mine_hard": Setting(CASES["mine_hard"], inputs=Collapsed),
}
# relative L2; an index may differ where fp32 cannot tell two distances apart
ALLOWED = {torch.float32: {"grad": 2e-5, "inde": 0.0}, torch.float64: {"inde": 0.0}}
VALUE = {torch.float32: 1e-5, torch.float64: 1e-12}


def errors(setting: Setting, ops: Any) -> dict[str, str]:
    """What `ops` gets wrong by more than rounding."""
    case, dtype, inputs = setting
    shape = SHAPES[dtype]
    got = case(ops, inputs(shape, dtype, exact=False))
    exact = case(torch.ops.fused_rank_eager, inputs(shape, dtype, exact=True))
    off = {name: error(got[name], exact[name]) for name in exact}
    allowed = {name: ALLOWED[dtype].get(name[:4], VALUE[dtype]) for name in off}
    return {name: f"off by {off[name]:.1e}" for name in off if off[name] > allowed[name]}

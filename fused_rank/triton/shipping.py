"""Every kind of call the operators serve, on small tensors: what `configs.shipped` records to list the compilations
that ship.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch

from ..ops.schemas import PAIR_INPUTS
from . import ops as typed_ops
from .configs import FP32_PRECISION

ops: Any = typed_ops  # called with unpacked arguments, which no checker follows

Call = tuple[str, Callable[[], object]]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (64, 128, 512)  # one of each width class, all multiples of 16 as embeddings are


class _Pair(NamedTuple):
    """A term as its losses call it: one metric for each, since metrics of one shape differ by an instruction or two."""

    term: str
    params: list[float]
    metric: str = "euclidean"
    fused: str = "none"
    query_only: bool = False  # the gallery is a constant


_PAIRS = [
    _Pair("ranked_list", [1.2, 0.4, 10.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0], fused="query", query_only=True),
    _Pair("ranked_list", [1.2, 0.4, 10.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    _Pair("ranked_list", [1.2, 0.4, 130.0, 90.0, 1.0, 1.0, 0.0, 0.0, 0.0], query_only=True),
    _Pair("contrastive", [0.0, 1.0, 2.0]),
    _Pair("sup_con", [-10.0], "cosine"),
    _Pair("negatives_lse", [-14.0, 0.0], "cosine"),
    _Pair("negatives_lse", [1.0, 0.0], "dot"),
    _Pair("softplus_negatives", [2.8, 2.0], "dot"),
    _Pair("softplus_positives", [-14.0, 0.0], "cosine"),
    _Pair("softplus_positives", [1.0, 0.0], "dot"),
    _Pair("multi_similarity", [2.0, 50.0, 0.5, 0.0], "cosine"),
    _Pair("circle", [0.4, 80.0], "cosine"),
    _Pair("lifted", [0.0, 1.0]),
    _Pair("margin", [0.2]),
]


def calls() -> Iterator[Call]:
    """(label, call) of each."""
    for dtype, width in product(DTYPES, WIDTHS):
        x, gallery = torch.zeros(320, width, dtype=dtype), torch.zeros(256, width, dtype=dtype)
        forms = {
            "self": (x, torch.zeros(320), None, None),
            "two-set": (x, torch.zeros(320), gallery, torch.zeros(256)),
        }
        for form, given in forms.items():
            where = f"{form} {str(dtype).removeprefix('torch.')} {width}"
            yield from _pair_calls(where, given)
            yield from _triplet_calls(where, given)
    yield from _opted_calls()


def _opted_calls() -> Iterator[Call]:
    """fp32 products of the precisions that FUSED_RANK_FP32_PRECISION offers, on one term."""
    for asked, width in product(("ieee", "tf32"), (128, 512)):
        x = torch.zeros(320, width)
        given = (x, torch.zeros(320), None, None)
        contrastive = _Pair("contrastive", [0.0, 1.0, 2.0])

        def train(asked: str = asked, given: tuple[Any, ...] = given, pair: _Pair = contrastive) -> object:
            before = os.environ.get(FP32_PRECISION)
            os.environ[FP32_PRECISION] = asked
            try:
                return _train(pair, given)
            finally:
                os.environ.pop(FP32_PRECISION)
                if before is not None:
                    os.environ[FP32_PRECISION] = before

        yield f"contrastive {asked} self float32 {width}", train


def _pair_calls(where: str, given: tuple[Any, ...]) -> Iterator[Call]:
    """The symmetric form compiles to what self form and two-set form do."""
    for pair in _PAIRS:
        yield f"{pair.term} {pair.fused} {where}", partial(_train, pair, given)


def _train(pair: _Pair, given: tuple[Any, ...]) -> object:
    count = PAIR_INPUTS[pair.term]
    inputs = torch.zeros(count, len(given[0])) if count else None
    common = (pair.term, pair.params, pair.metric, True)
    results, *kept = ops.pair_forward(*given, inputs, *common, pair.fused, False)
    grads = results[: results.shape[0] // 3]
    two_set = given[2] is not None and not pair.query_only
    options = (*common, pair.query_only, False, *kept, True, two_set, inputs is not None)
    return ops.pair_backward(grads, *given, inputs, *options)


def _triplet_calls(where: str, given: tuple[Any, ...]) -> Iterator[Call]:
    for mining, soft in product(("hard", "semihard", "all", "semihard_all"), (False, True)):

        def train(mining: str = mining, soft: bool = soft) -> object:
            options = (mining, 0.2, soft, "euclidean", True)
            rows, state, live = ops.triplet_forward(*given, *options)
            state.fill_(-1)  # nothing was mined
            return ops.triplet_backward(
                rows[:1], *given, *options, state, live, rows, True, given[2] is not None
            )

        yield f"triplet {mining}{' soft' * soft} {where}", train
    for metric, k in (("euclidean", 10), ("dot", 100)):

        def find(metric: str = metric, k: int = k) -> None:
            with suppress(IndexError):  # nobody wrote the rows that were found
                ops.topk(given[0], given[2], k, metric, True, given[2] is None)

        yield f"topk {metric} {k} {where}", find

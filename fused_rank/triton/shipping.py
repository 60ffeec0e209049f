"""Every kind of call the operators serve, on small tensors: what `configs.shipped` records to list the compilations
that ship.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import torch

from . import ops as typed_ops

ops: Any = typed_ops  # called with unpacked arguments, which no checker follows

Call = tuple[str, Callable[[], object]]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (64, 128, 512)  # one of each width class, all multiples of 16 as embeddings are
# (term, parameters, fused, the gallery is constant)
_PAIR_TERMS = [
    ("ranked_list", [1.2, 0.4, 10.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0], "query", True),
    ("ranked_list", [1.2, 0.4, 10.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0], "none", False),
    ("ranked_list", [1.2, 0.4, 130.0, 90.0, 1.0, 1.0, 0.0, 0.0, 0.0], "none", True),
    ("contrastive", [0.0, 1.0, 2.0], "none", False),
]


def calls() -> Iterator[Call]:
    """(label, call) of each."""
    for dtype, width in product(DTYPES, WIDTHS):
        x, gallery = torch.zeros(192, width, dtype=dtype), torch.zeros(128, width, dtype=dtype)
        forms = {
            "self": (x, torch.zeros(192), None, None),
            "two-set": (x, torch.zeros(192), gallery, torch.zeros(128)),
        }
        for form, given in forms.items():
            where = f"{form} {str(dtype).removeprefix('torch.')} {width}"
            yield from _pair_calls(where, given)
            yield from _triplet_calls(where, given)


def _pair_calls(where: str, given: tuple[Any, ...]) -> Iterator[Call]:
    for term, params, fused, query_only in _PAIR_TERMS:

        def train(
            term: str = term, params: list[float] = params, fused: str = fused, query_only: bool = query_only
        ) -> object:
            results, *kept = ops.pair_forward(*given, None, term, params, "euclidean", True, fused, False)
            grads = results[: results.shape[0] // 3]
            two_set = given[2] is not None and not query_only
            options = (term, params, "euclidean", True, query_only, False)
            return ops.pair_backward(grads, *given, None, *options, *kept, True, two_set, False)

        yield f"{term} {fused} {where}", train


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

"""Faults seeded into the real kernels: the checks of this suite must fail on each, and pass without it.

A row names a function, the text to change, and the check. `caught` is the strict interpreter's message, or None where
numbers are wrong. Should a row's text no longer be there, the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module

import pytest

from ..losses import CONTRASTIVE, RANKED_LIST, TRIPLET
from .kernel_checks import (
    copies_check,
    hard_check,
    loss_check,
    near_copies_check,
    semihard_check,
    tight_check,
    topk_check,
)
from .pair_checks import INNER_PRODUCTS, TERMS, check
from .seeded import seeded

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("triton_kernels")


BOTH = partial(loss_check, RANKED_LIST, {"gradient": "both"})
QUERY = partial(loss_check, RANKED_LIST, {"gradient": "query"})
EXACT_ALL = partial(
    loss_check, RANKED_LIST, {"gradient": "exact", "temperature_pos": 5.0, "positive_mean": "all", "eps": 0.3}
)
STEEP = partial(
    loss_check, RANKED_LIST, {"gradient": "exact", "temperature_neg": 130.0, "temperature_pos": 90.0}
)
PAIRS = partial(loss_check, CONTRASTIVE, {"pos_margin": 0.4, "neg_margin": 1.3})
PAIRS_TWO_SET = partial(loss_check, CONTRASTIVE, {"pos_margin": 0.4, "neg_margin": 1.3}, "two-set")
UNSCALED = partial(loss_check, CONTRASTIVE, {"pos_margin": 0.4, "neg_margin": 1.3, "normalize": False})
SOFT = partial(loss_check, TRIPLET, {"mining": "all", "soft_margin": True}, shape=(70, 75, 19))
ALL = partial(loss_check, TRIPLET, {"mining": "all"}, shape=(70, 75, 19))
ALL_TWO_SET = partial(loss_check, TRIPLET, {"mining": "all"}, "two-set", shape=(40, 75, 19))
BAND = partial(
    loss_check, TRIPLET, {"mining": "semihard_all", "soft_margin": True, "margin": 0.3}, shape=(70, 75, 19)
)
SYMMETRIC = partial(check, replace(TERMS["sup_con"], form="symmetric"))
INPUTS = partial(check, TERMS["softplus_positives"])
DOT = partial(check, INNER_PRODUCTS[0])
WIDE = partial(check, replace(TERMS["margin"], form="two-set", shape=(70, 75, 135)))
CLUSTERS = partial(
    check, replace(TERMS["contrastive"], params=(0.0, 0.5, 1.0), clusters=3, shape=(256, 0, 19))
)
SEMIHARD = partial(loss_check, TRIPLET, {"mining": "semihard"}, shape=(70, 75, 19))


@dataclass(frozen=True)
class Fault:
    name: str
    function: str
    old: str
    new: str
    check: Callable[[], None]
    caught: str | None = None


ROWS_MASK = "(i < rows)[:, None] & (k < width)[None, :]"
FAULTS = [
    Fault(
        "rows not masked",
        "tile.load_rows",
        ROWS_MASK,
        "(i >= 0)[:, None] & (k < width)[None, :]",
        PAIRS,
        "load out of bounds: element .* of pointer|load out of bounds: .* of [xy].rows",
    ),
    Fault(
        "features not masked",
        "tile.load_rows",
        ROWS_MASK,
        "(i < rows)[:, None] & (k >= 0)[None, :]",
        PAIRS,
        "load out of bounds",
    ),
    Fault(
        "sums stored beyond the rows",
        "fold.store_members",
        "mask=i < rows",
        "mask=i >= 0",
        PAIRS,
        "race on partial|store out of bounds",
    ),
    Fault(
        "parts share their sums",
        "fold.store_members",
        "m * parts + part,",
        "m * parts,",
        PAIRS,
        "race on partial",
    ),
    Fault(
        "parts not merged",
        "statistics.finish_kernel",
        "row = TERM.merge(row, other, p)",
        "row = other",
        PAIRS,
    ),
    Fault(
        "columns beyond the end are negatives",
        "tile.kinds",
        "inside & ~same",
        "(i < rows)[:, None] & ~same",
        PAIRS,
    ),
    Fault("one positive too many", "tile.kinds", "j[None, :] < end", "j[None, :] <= end", PAIRS),
    Fault(
        "own row is a positive",
        "tile.kinds",
        "inside & same & (i[:, None] != j[None, :] + apart)",
        "inside & same",
        EXACT_ALL,
    ),
    Fault("product transposed", "tile.products", "return out", "return tl.trans(out)", hard_check),
    Fault(
        "products of ten bits", "tile.products", "input_precision=PRECISION", 'input_precision="tf32"', PAIRS
    ),
    Fault(
        "no pair is close",
        "tile._squares",
        "squared < share * (own + other)",
        "squared < -share * (own + other)",
        near_copies_check,
    ),
    Fault(
        "close pairs not marked",
        "statistics.statistics_kernel",
        "alive += 2 * any_set(close)",
        "alive += 0 * any_set(close)",
        near_copies_check,
    ),
    Fault(
        "low parts dropped",
        "tile.difference",
        "return (raw - other) + low",
        "return raw - other",
        near_copies_check,
    ),
    Fault(
        "live tiles taken for dead",
        "statistics.statistics_kernel",
        "alive.to(tl.uint8)",
        "tl.where(t == 1, 0, alive).to(tl.uint8)",
        PAIRS,
    ),
    Fault(
        "merged sums not rescaled",
        "terms.ranked_list._streamed_merge",
        "row[2] * own_neg + other[2] * neg",
        "row[2] + other[2]",
        STEEP,
    ),
    Fault("columns' losses move no row", "fold.coefficients", "if OF_COLUMNS:", "if False:", BOTH),
    Fault(
        "queries' scales in sorted order",
        "gradient.scale_kernel",
        "kept + (tl.load(state + tl.cast(k * rows, tl.int64) + at",
        "kept + (tl.load(state + tl.cast(k * rows, tl.int64) + i",
        BOTH,
    ),
    Fault(
        "gallery rows as queries",
        "pairs.reversed_ranges",
        "order.end, place",
        "order.begin, place",
        PAIRS_TWO_SET,
    ),
    Fault("mass left out", "pull.finish_pull", "mass[:, None] * own + sums", "sums", UNSCALED),
    Fault(
        "close pairs pull twice",
        "gradient.gradient_kernel",
        "tl.where(close, 0.0, c *",
        "tl.where(close, c, c *",
        near_copies_check,
    ),
    Fault(
        "coefficients of eight bits",
        "pull._product",
        'return tl.dot(low, other, sum_high, input_precision="ieee")',
        "return sum_high",
        tight_check,
    ),
    Fault(
        "parts of one pass share their sums",
        "one_pass.one_pass_kernel",
        "slot + part, slots",
        "slot, slots",
        QUERY,
        "race on partial",
    ),
    Fault(
        "first tile of a band passed over",
        "tile.tiles_of",
        "some // BN)",
        "some // BN + 1)",
        QUERY,
    ),
    Fault(
        "ties to the highest row",
        "selection.offer_nearest",
        "tl.min(tl.where(equal, number, 2147483647), AXIS)",
        "tl.max(tl.where(equal, number, -1), AXIS)",
        hard_check,
    ),
    Fault(
        "bests of tiles written over",
        "selection.offer_nearest",
        "tl.atomic_min(",
        "tl.store(",
        hard_check,
        "race on Nearest",
    ),
    Fault(
        "tiles below the diagonal serve nobody",
        "selection.hard_kernel",
        "            offer_nearest(Nearest, j, j < columns, near, own, 0)\n",
        "            pass\n",
        hard_check,
    ),
    Fault(
        "negatives as near as the positive",
        "ranks.semihard_kernel",
        "an[:, None, :] > ap",
        "an[:, None, :] >= ap",
        semihard_check,
    ),
    Fault(
        "labels unordered",
        ".gpu.order.order_by_label",
        "torch.sort(labels.long(), stable=True)",
        "torch.sort(labels.long() * 0, stable=True)",
        PAIRS,
    ),
    Fault(
        "own place among the best",
        "topk.topk_kernel",
        "column[None, :] != query[:, None]",
        "column[None, :] >= 0",
        partial(topk_check, 5, True),
    ),
    Fault(
        "last column passed over",
        "topk.topk_kernel",
        "(column < columns)",
        "(column < columns - 1)",
        partial(topk_check, 31),
    ),
    Fault("columns not masked", "ranks.load_negatives", "(column < columns)", "(column >= 0)", ALL),
    Fault(
        "band open at its far end",
        "every_triplet.in_band",
        "an - ap <= margin",
        "an - ap <= 2 * margin",
        BAND,
    ),
    Fault("series beyond its reach", "ranks.softplus", "e < 1e-2", "e < 0.5", SOFT),
    Fault(
        "upstream gradient left out",
        "every_triplet.all_backward_kernel",
        "value = upstream[:, None] * slope",
        "value = slope",
        ALL,
    ),
    Fault(
        "coefficients transposed",
        "strip_pull.strip_pull_kernel",
        "other.to(tl.int64)[None, :] * stride + own[:, None]",
        "own.to(tl.int64)[:, None] * stride + other[None, :]",
        ALL_TWO_SET,
    ),
    Fault(
        "another row's edge",
        "listed.edge_sum_kernel",
        "edge < end[:, None]",
        "edge <= end[:, None]",
        SEMIHARD,
    ),
    Fault(
        "copies apart by a fused multiply-add",
        "listed.scaled_difference",
        "(x - y) * (0.5 * (rest_x + rest_y)) + (rest_x - rest_y) * (0.5 * (x + y))",
        "x * rest_x - y * rest_y",
        copies_check,
    ),
    Fault(
        "edges of a row in two programs",
        "listed.edge_sum_kernel",
        "row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)",
        "row = tl.program_id(0) * (ROWS // 2) + tl.arange(0, ROWS)",
        SEMIHARD,
        "race on Total",
    ),
]


FAULTS += [
    Fault(
        "inputs of other rows",
        "fold.load_inputs",
        "load_members(pointer, i, rows",
        "load_members(pointer, i // 2, rows",
        INPUTS,
    ),
    Fault("inputs' gradients", "terms.nt_xent._pull_finish", "(row[3], row[1])", "(row[3], row[2])", INPUTS),
    Fault(
        "own number left out",
        "terms.softplus_negatives._finish",
        "level - row[2]",
        "level",
        partial(check, TERMS["softplus_negatives"]),
    ),
    Fault("inner products have a mass", "pull.finish_pull", "return -sums", "return sums", DOT),
    Fault(
        "alive for rows only",
        "statistics.joined_live",
        "turned[:-1].view(shape[::-1]).T",
        "live[:-1].view(shape)",
        partial(check, replace(TERMS["margin"], shape=(130, 0, 19), uneven=True)),
    ),
    Fault(
        "the gallery's losses move no query",
        "ops.pair_backward",
        "gradient(queries, scales, others, live)",
        "gradient(queries, scales, None, live)",
        SYMMETRIC,
    ),
    Fault(
        "exponentials not rescaled",
        "terms.logits.merge_exponentials",
        "other_total * tl.exp(other_peak - higher)",
        "other_total",
        SYMMETRIC,
    ),
    Fault(
        "rows of a strip doubled",
        "wide.coefficient_kernel",
        "i = strip_first + own",
        "i = strip_first + own // 2 * 2",
        WIDE,
    ),
    Fault(
        "no products within clusters",
        "near.near_gradient_kernel",
        "if any_set(by_product != 0.0) > 0:",
        "if any_set(by_product != 0.0) > 1:",
        CLUSTERS,
    ),
    Fault(
        "norms of local rows",
        "clusters.local_kernel",
        "tl.store(x.local_norm + i, total,",
        "tl.store(x.local_norm + i, 1.01 * total,",
        CLUSTERS,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_seeded_fault_is_caught(fault: Fault) -> None:
    from . import strict_interpreter

    module, name = fault.function.rsplit(".", 1)
    function = getattr(import_module(f".{module}", "fused_rank.triton"), name)
    fault.check()
    with seeded(function, fault.old, fault.new), pytest.raises(AssertionError, match=fault.caught) as caught:
        fault.check()
    assert fault.caught is None or caught.errisinstance(strict_interpreter.StrictError)
    fault.check()

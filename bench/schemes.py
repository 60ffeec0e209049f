"""The schemes a sweep can follow, as work for `roofline.floor`: FLOP, instructions and bytes from the shapes.

u is one B×B×D product, 2B²D FLOP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

import torch

from fused_rank.gpu.widths import on_chip
from fused_rank.triton.configs import blocks, tiles

from .roofline import Batch, Cost, Dtype, Gpu, Pipe, Sweep, floor

TF32X3 = 3  # tensor-core products for one of fp32 accuracy
TORCH_DTYPES: Mapping[Dtype, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a tile, and the slice of D whose gradient a program keeps on chip."""

    rows: int = 64
    columns: int = 64
    slice: int = 256


def tile_of(kernel: str, batch: Batch) -> Tile:
    """What the Triton kernel runs with."""
    found = tiles(kernel, TORCH_DTYPES[batch.dtype], batch.width)
    return Tile(found.rows, found.columns, found.features or batch.width)


# Counted by hand from the formulas, one instruction an operation, masks of mixed tiles and addressing left out:
# what a compiler emits is more.
COSTS: Mapping[str, Cost] = {
    "distance": Cost(5),  # |x|² + |y|², − 2xy, clamp at 0; τ(|x|² + |y|²) and the comparison with it
    "root": Cost(3, 1),
    "ranked_list fold": Cost(7, 1),  # hinge, its test, exponent, exp2, select, Σw, Σw·hinge
    "ranked_list slope": Cost(10, 1),  # as above, times both ends' scales, / d, Σc
    "contrastive fold": Cost(5),  # hinge, its test, clamp, Σhinge², count
    "contrastive slope": Cost(6),  # hinge, clamp, scale, / d, the other end, Σc
    "select": Cost(3),  # for one end: compare, select value, select index
    "rank": Cost(3),  # for one positive: compare, select, minimum
    "hinge": Cost(4),  # for one positive: subtract, clamp, Σ, count
    "split": Cost(2),  # one number into high and low part
}

# Bytes of B×B tensors that the eager oracle reads and writes per pair, forward and backward, and its products; a test
# counts them again. It widens 16-bit input, and torch's fp32 products run on the FMA pipe unless told otherwise.
EAGER: Mapping[str, tuple[float, float]] = {
    "ranked_list query": (303, 2),
    "ranked_list both": (311, 3),
    "contrastive": (343, 3),
    "hard": (165, 3),
    "semihard": (188, 3),
    "all": (256, 3),
    "band": (340, 3),
}
LOSSES = tuple(EAGER)


def eager(loss: str, batch: Batch) -> Sweep:
    """The dense oracle: fp32 products, then passes over B×B tensors."""
    per_pair, products = EAGER[loss]
    flop: dict[Pipe, float] = {"fma": products * batch.product}
    return Sweep("eager", flop, Cost(0), 0.0, per_pair * batch.pairs, overlaps=False)


def statistics(term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Row-owned, 1u: every program owns rows and walks all columns."""
    return _walk("statistics", batch, tile, costs, _metric(costs) + costs[f"{term} fold"], scores=1)


def symmetric_statistics(
    term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS
) -> Sweep:
    """The alternative, ½u: tiles J ≥ I only, folded into the rows of both ends."""
    epilogue = _metric(costs) + costs[f"{term} fold"] * 2
    return _walk("statistics, symmetric", batch, tile, costs, epilogue, scores=1, share=0.5)


def gradient(term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Row-owned: S once for every slice of D, then C·X_J."""
    epilogue = _metric(costs) + costs[f"{term} slope"] + costs["split"]
    slices = ceil(batch.width / tile.slice)
    return _walk("gradient", batch, tile, costs, epilogue, scores=slices, products=1)


def strip_gradient(term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """The other way, for wide D: S once, a strip of C written to L2 and read back for each slice of D.

    At its best: as if the two kernels overlapped, which `wide_gradient` does not assume.
    """
    whole = gradient(term, batch, replace(tile, slice=batch.width), costs)
    passes = 1 + ceil(batch.width / tile.slice)
    return replace(whole, name="gradient, strip", l2_bytes=whole.l2_bytes + 4.0 * passes * batch.pairs)


def wide_gradient(term: str, batch: Batch, costs: Mapping[str, Cost] = COSTS) -> list[Sweep]:
    """The same as it ships: coefficients into strips, then strips times rows, one after the other."""
    tile, pull = tile_of("coefficients", batch), tile_of("wide_pull", batch)
    slope = _metric(costs) + costs[f"{term} slope"]
    made = _walk("coefficients", batch, tile, costs, slope, scores=1)
    slices = ceil(batch.width / pull.slice)
    multiplied = _walk("strip times rows", batch, pull, costs, costs["split"] * slices, scores=0, products=1)
    return [
        replace(made, l2_bytes=made.l2_bytes + 4.0 * batch.pairs),
        replace(multiplied, l2_bytes=multiplied.l2_bytes + 4.0 * slices * batch.pairs),
    ]


def one_pass(term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Value and the query's gradient together: S, fold and slope of every pair, C·X_J.

    The band of positives, walked first, is left out: O(B·(P + tile)·D).
    """
    return replace(gradient(term, batch, tile, costs), name="one pass")


def selection(
    batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS, exact: bool = True
) -> Sweep:
    """Symmetric, ½u, exact fp32 products so that ties are ties; both ends of a tile folded."""
    epilogue = costs["distance"] + costs["select"] * 2
    return _walk("selection", batch, tile, costs, epilogue, scores=1, share=0.5, exact=exact)


def strip(batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS, close: bool = False) -> Sweep:
    """Squared distances of all pairs, a strip at a time, exact; with `close` a byte more for the backward pass."""
    filled = _walk("strip", batch, tile, costs, costs["distance"] + Cost(1), scores=1, exact=True)
    return replace(filled, l2_bytes=filled.l2_bytes + (5.0 if close else 4.0) * batch.pairs)


def rank(
    batch: Batch, step: str, chunk: int = 4, costs: Mapping[str, Cost] = COSTS, writes: bool = False
) -> Sweep:
    """A strip's distances against the row's P positives, `chunk` of them a reading; `step` is "rank" or "hinge"."""
    readings = ceil(batch.positives / chunk)
    epilogue = costs["root"] * readings + costs[step] * batch.positives
    traffic = 4.0 * (readings + writes) * batch.pairs
    return Sweep("coefficients" if writes else "rank", {}, epilogue * batch.pairs, traffic, 0.0)


def strip_pull(batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """C·X_J of one end from a strip of C, read again (with the close pairs' byte) for each slice of D."""
    pulled = _walk("strip pull", batch, tile, costs, costs["split"], scores=0, products=1)
    return replace(pulled, l2_bytes=pulled.l2_bytes + 5.0 * ceil(batch.width / tile.slice) * batch.pairs)


def listed(batch: Batch, edges: int) -> Sweep:
    """Backward of mined losses: every edge reads a row for each of its two ends."""
    traffic = 2.0 * edges * batch.bytes / batch.rows
    return Sweep("listed pairs", {}, Cost(0), traffic, 2.0 * batch.bytes)


def plan(loss: str, batch: Batch, costs: Mapping[str, Cost] = COSTS) -> list[Sweep]:
    """The sweeps that run for forward and backward of the loss, one after another, with the tiles they ship with."""
    term = loss.split()[0]
    if loss in ("ranked_list query", "ranked_list both", "contrastive"):
        first = statistics(term, batch, tile_of("statistics", batch), costs)
        if not on_chip(TORCH_DTYPES[batch.dtype], batch.width):
            return [first, *wide_gradient(term, batch, costs)]
        slices = tile_of("gradient", batch)
        if loss == "ranked_list query":
            return [one_pass(term, batch, slices, costs)]
        return [first, gradient(term, batch, slices, costs)]
    if loss == "hard":
        return [selection(batch, tile_of("selection", batch), costs), listed(batch, 2 * batch.rows)]
    filled, chunk = tile_of("strip", batch), blocks("rank").shape["POSITIVES"]
    if loss == "semihard":
        ranked = rank(batch, "rank", chunk, costs)
        return [strip(batch, filled, costs), ranked, listed(batch, 2 * batch.rows * batch.positives)]
    pulled = strip_pull(batch, tile_of("strip_pull", batch), costs)
    return [
        strip(batch, filled, costs),
        rank(batch, "hinge", chunk, costs),
        strip(batch, filled, costs, close=True),
        rank(batch, "hinge", chunk, costs, writes=True),
        *(replace(pulled, name=f"strip pull, {end}") for end in ("anchors", "others")),
    ]


def seconds(sweeps: list[Sweep], gpu: Gpu) -> float:
    """Floor of sweeps that run one after another."""
    return sum(floor(sweep, gpu).seconds for sweep in sweeps)


def _metric(costs: Mapping[str, Cost]) -> Cost:
    return costs["distance"] + costs["root"]


def _walk(
    name: str,
    batch: Batch,
    tile: Tile,
    costs: Mapping[str, Cost],
    per_pair: Cost,
    scores: int,
    products: int = 0,
    share: float = 1.0,
    exact: bool = False,
) -> Sweep:
    """`scores` products S and `products` products C·X over a `share` of the tiles; the epilogue once per S.

    Columns are read from L2 once per row block, rows once. fp32 operands are split once per tile on their way to the
    tensor cores unless `exact`. C keeps fp32 accuracy in a high and a low part: of bf16, or of tf32 against
    fp16, which tf32 holds exactly.
    """
    single = batch.dtype == "fp32"
    score_pipe: Pipe = "half" if not single else "fma" if exact else "tf32"
    product_pipe: Pipe = "half" if batch.dtype == "bf16" else "tf32"
    flop: dict[Pipe, float] = {}
    for pipe, count in (
        (score_pipe, scores * (TF32X3 if score_pipe == "tf32" else 1)),
        (product_pipe, products * (TF32X3 if single else 2)),
    ):
        if count:
            flop[pipe] = flop.get(pipe, 0.0) + share * count * batch.product
    epilogue = per_pair * max(scores, 1)
    loaded = scores * (1 / tile.rows + 1 / tile.columns) * (score_pipe == "tf32")
    loaded += products / tile.rows * (product_pipe == "tf32")
    epilogue += costs["split"] * (loaded * batch.width)
    return Sweep(
        name,
        flop,
        epilogue * (share * batch.pairs),
        share * (scores + products) * batch.bytes * (batch.rows / tile.rows),
        batch.bytes * (2 if products else 1),
    )

"""The schemes a sweep can follow, as work for `roofline.floor`: FLOP, instructions and bytes from the shapes.

u is one B×B×D product, 2B²D FLOP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from .roofline import Batch, Cost, Gpu, Pipe, Sweep, floor

TF32X3 = 3  # tensor-core products for one of fp32 accuracy


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a tile, and the slice of D whose gradient a program keeps on chip."""

    rows: int = 64
    columns: int = 64
    slice: int = 256


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
    nothing = Cost(0)
    return Sweep(
        "eager", "fma", products * batch.product, nothing, 0.0, per_pair * batch.pairs, overlaps=False
    )


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
    """Row-owned: S once for every slice of D, then C·X_J; 16-bit coefficients as high and low parts."""
    epilogue = _metric(costs) + costs[f"{term} slope"] + costs["split"]
    slices = ceil(batch.width / tile.slice)
    return _walk("gradient", batch, tile, costs, epilogue, scores=slices, products=1)


def strip_gradient(term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """The alternative for wide D: S once, a strip of C written to L2 and read back by a second product."""
    whole = gradient(term, batch, replace(tile, slice=batch.width), costs)
    return replace(whole, name="gradient, strip", l2_bytes=whole.l2_bytes + 8.0 * batch.pairs)


def one_pass(term: str, batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Value and the query's gradient together: S, fold and slope of every pair, C·X_J; positives are a band."""
    return replace(gradient(term, batch, tile, costs), name="one pass")


def selection(batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Symmetric, ½u, exact fp32 products so that ties are ties; both ends of a tile folded."""
    epilogue = costs["distance"] + costs["select"] * 2
    return _walk("selection", batch, tile, costs, epilogue, scores=1, share=0.5, exact=True)


def rank(batch: Batch, step: str, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Row-owned, 1u, exact: each pair meets the row's P positives; `step` is "rank" or "hinge"."""
    epilogue = costs["distance"] + costs[step] * batch.positives
    epilogue += costs["root"] if step == "hinge" else Cost(0)
    return _walk("rank", batch, tile, costs, epilogue, scores=1, exact=True)


def rank_gradient(batch: Batch, tile: Tile = Tile(), costs: Mapping[str, Cost] = COSTS) -> Sweep:
    """Of all triplets and the band: own side and other side, each S per slice of D and C·X_J."""
    epilogue = _metric(costs) + costs["rank"] * batch.positives + costs["split"]
    slices = ceil(batch.width / tile.slice)
    return _walk("rank gradient", batch, tile, costs, epilogue, scores=2 * slices, products=2, exact=True)


def listed(batch: Batch, edges: int) -> Sweep:
    """Backward of mined losses: every edge reads a row for each of its two ends."""
    traffic = 2.0 * edges * batch.bytes / batch.rows
    return Sweep("listed pairs", "fma", 0.0, Cost(0), traffic, 2.0 * batch.bytes)


def plan(loss: str, batch: Batch, tile: Tile | None = None, costs: Mapping[str, Cost] = COSTS) -> list[Sweep]:
    """The sweeps that run for forward and backward of the loss, one after another."""
    tile = tile or Tile(slice=128 if batch.dtype == "fp32" else 256)
    term = loss.split()[0]
    if loss == "ranked_list query":
        return [one_pass(term, batch, tile, costs)]
    if loss in ("ranked_list both", "contrastive"):
        return [statistics(term, batch, tile, costs), gradient(term, batch, tile, costs)]
    if loss == "hard":
        return [selection(batch, tile, costs), listed(batch, 2 * batch.rows)]
    if loss == "semihard":
        return [rank(batch, "rank", tile, costs), listed(batch, 2 * batch.rows * batch.positives)]
    return [rank(batch, "hinge", tile, costs), rank_gradient(batch, tile, costs)]


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

    Columns are read from L2 once per row block, rows once; fp32 operands are split once per tile on their way to
    the tensor cores unless `exact`.
    """
    widened = batch.dtype == "fp32" and not exact
    coefficients = 1 if batch.dtype == "fp32" else 2  # C in 16 bits is a high and a low part
    pipe: Pipe = "half" if batch.dtype != "fp32" else "fma" if exact else "tf32"
    epilogue = per_pair * scores
    if widened:
        loaded = scores * (1 / tile.rows + 1 / tile.columns) + products / tile.rows
        epilogue += costs["split"] * (loaded * batch.width)
    walked = share * batch.pairs
    return Sweep(
        name,
        pipe,
        share * (scores + products * coefficients) * batch.product * (TF32X3 if widened else 1),
        epilogue * walked,
        share * (scores + products) * batch.bytes * (batch.rows / tile.rows),
        batch.bytes * (2 if products else 1),
    )

"""Strips of distances, for the sweeps that rank whole rows."""

from ..gpu.order import LabelOrder
from ..ops.options import RetrievalMetric
from . import kernels
from .operand import Packed
from .strips import Strip


def fill_strip(
    packed: Packed, order: LabelOrder, metric: RetrievalMetric, strip: Strip, *, square: bool
) -> None:
    """Computes a strip's distances, infinite to rows that are not finite, and the record of its close pairs.

    Args:
        square: squared distances (metric dot: inner products, minus infinity), rather than the metric's.
    """
    arrays, sizes = packed.arguments(order, metric)
    kernels.run(
        "distances",
        [*arrays, strip.values, strip.near_tiles, strip.near_bits],
        [*sizes, *strip.sizes, int(square), 1],
    )

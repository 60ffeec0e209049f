"""The gradient of wide rows: coefficients through memory, some hundred rows at a time.

Their distances are computed once, where a gradient on chip computes them for every slice of the features. A strip is
small enough to stay in the cache until it is multiplied out.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import LIVE_TILE, tiles
from .fold import coefficients
from .launch import launch
from .operand import Operand
from .strip import Strip, strips
from .strip_pull import pull_strip
from .tile import band, edge_factor, kinds, load_ranges, tile_distances


@triton.jit(do_not_specialize=["rows", "columns", "apart", "live_row", "live_column", "strip_first"])
def coefficient_kernel(
    x,
    y,
    begin,
    end,
    own_scales,
    other_scales,
    live,
    values,  # fp32 [rows of the strip, stride]
    p,
    rows,
    columns,
    width,
    apart,
    live_row,
    live_column,
    strip_first,
    stride,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    OF_ROWS: tl.constexpr,
    OF_COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    LIVE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Coefficients of one tile, if it is live; 0 for close pairs."""
    own = tl.program_id(1) * BM + tl.arange(0, BM)
    i = strip_first + own
    j0 = tl.program_id(0) * BN
    at = tl.cast((strip_first + tl.program_id(1) * BM) // LIVE, tl.int64) * live_row
    if (tl.load(live + at + tl.cast(j0 // LIVE, tl.int64) * live_column) & 1) == 0:
        return
    j = j0 + tl.arange(0, BN)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    d, close = tile_distances(x, y, i, j, rows, columns, width, apart, METRIC, PRECISION, BK)
    positive, negative = kinds(i, j, first, last, rows, columns, apart)
    of = (positive, negative, (some < j0 + BN) & (most > j0))
    scales = (own_scales, other_scales)
    c = coefficients(d, i, j, of, scales, p, rows, columns, TERM, OF_ROWS, OF_COLUMNS)
    c = tl.where(close, 0.0, c * edge_factor(d, METRIC))
    place = own.to(tl.int64)[:, None] * stride + j[None, :]
    tl.store(values + place, c, mask=(i < rows)[:, None] & (j < columns)[None, :])


def wide_gradient(x: Operand, y: Operand, arguments: dict[str, Any], constexprs: dict[str, Any]) -> Tensor:
    """What `gradient_kernel` would leave of far pairs, fp32 [1, R, D]; arguments and constexprs are its own."""
    shape = tiles("coefficients", x.source.dtype, x.width)
    columns = triton.cdiv(y.size, shape.columns)
    tile = {"LIVE": LIVE_TILE, "BM": shape.rows, "BN": shape.columns, "BK": shape.depth}
    out = torch.empty(1, x.size, x.width, dtype=torch.float32, device=x.source.device)
    values: Tensor | None = None
    for strip in strips(x.size, y.size):
        if values is None:  # the first is the largest
            values = out.new_empty(strip.shape)
        launch(
            coefficient_kernel,
            (columns, triton.cdiv(strip.rows, shape.rows)),
            {**arguments, "values": values, "strip_first": strip.first, "stride": strip.stride},
            {**constexprs, **tile},
            **shape.options,
        )
        index = x.side.index[strip.first : strip.first + strip.rows]
        out[0, index] = _pulled(x, y, strip, values, arguments, constexprs)
    return out


def _pulled(
    x: Operand,
    y: Operand,
    strip: Strip,
    values: Tensor,
    arguments: dict[str, Any],
    constexprs: dict[str, Any],
) -> Tensor:
    given = {
        "Close": None,
        "Near": None,
        "Live": arguments["live"],
        "tile_columns": 0,
        "own_first": strip.first,
        "owners": strip.rows,
        "other_first": 0,
        "others": y.size,
        "live_row": arguments["live_row"],
        "live_column": arguments["live_column"],
    }
    kind = {"ANCHORS_OWN": True, "METRIC": constexprs["METRIC"]}
    tile = tiles("wide_pull", x.source.dtype, x.width)
    return pull_strip(x, y, values, given, kind, tile, (False,))

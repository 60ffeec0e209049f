"""One tile of the pair matrix on chip: distances of rows i to columns j, right to the last digits.

All sweeps are written in these functions. i and j are int32 sorted positions, [BM] and [BN]; positions beyond the end
give arbitrary finite distances, which callers mask. Column j is row j + apart of the queries' side: `apart` is 0 in
self form, where a row is no pair with itself, and APART, beyond every row, in two-set form.
"""

import triton
import triton.language as tl

# Below this share of |x|² + |y|² a squared distance is recomputed by direct difference: there the product's rounding
# would show. tf32 products truncate, which costs close pairs, whose terms have one sign, some four times as much.
CLOSE = tl.constexpr(0.01)
CLOSE_TF32 = tl.constexpr(0.05)
APART = tl.constexpr(1 << 30)


@triton.jit
def is_half(side):
    """Are the rows 16-bit (raw, with factors of their own)?"""
    return side.rows.dtype.element_ty != tl.float32


@triton.jit
def load_rows(pointer, i, k, rows, width):
    """Rows i, features k: [I, K] as stored; zero out of bounds."""
    inside = (i < rows)[:, None] & (k < width)[None, :]
    return tl.load(pointer + i.to(tl.int64)[:, None] * width + k[None, :], mask=inside, other=0.0)


@triton.jit
def load_row(pointer, j, k, width):
    """One row j: [K]."""
    return tl.load(pointer + j.to(tl.int64) * width + k, mask=k < width, other=0.0)


@triton.jit
def split_tf32(values):
    """fp32 values in two parts of eleven bits, each nearest: what is left over has either sign."""
    bits = values.to(tl.int32, bitcast=True)
    high = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return high, values - high


@triton.jit
def _add_product(total, small, a, b, input_precision: tl.constexpr):
    """total + small + a @ b, as such a pair.

    The compiler's own tf32x3 truncates to parts of one sign, whose errors add up, and its sums depend on the depth of
    a step: statistics and gradients would see different distances.
    """
    if input_precision == "tf32x3":
        high, low = split_tf32(a)
        other_high, other_low = split_tf32(b)
        small = tl.dot(low, other_high, small, input_precision="tf32")
        small = tl.dot(high, other_low, small, input_precision="tf32")
        total = tl.dot(high, other_high, total, input_precision="tf32")
    else:
        total = tl.dot(a, b, total, input_precision=input_precision)
    return total, small


@triton.jit
def products(x_rows, y_rows, i, j, rows, columns, width, PRECISION: tl.constexpr, BK: tl.constexpr):
    """x_i · y_j [BM, BN], of rows as stored."""
    out = tl.zeros([i.shape[0], j.shape[0]], tl.float32)
    small = tl.zeros([i.shape[0], j.shape[0]], tl.float32)
    for k0 in range(0, width, BK):
        k = k0 + tl.arange(0, BK)
        a = load_rows(x_rows, i, k, rows, width)
        b = load_rows(y_rows, j, k, columns, width)
        out, small = _add_product(out, small, a, tl.trans(b), input_precision=PRECISION)
    if PRECISION == "tf32x3":
        out += small
    return out


@triton.jit
def inner_products(x, y, i, j, rows, columns, width, PRECISION: tl.constexpr, BK: tl.constexpr):
    """x̂_i · ŷ_j [BM, BN], of rows times their factors: the `dot` metric, for operands that are not centred."""
    out = products(x.rows, y.rows, i, j, rows, columns, width, PRECISION, BK)
    if is_half(x):
        factor = tl.load(x.inverse + i, mask=i < rows, other=0.0)[:, None]
        # one product of the factors, so that x · y and y · x have the same bits
        out *= factor * tl.load(y.inverse + j, mask=j < columns, other=0.0)[None, :]
    return out


@triton.jit
def _squares(product, own, other, PRECISION: tl.constexpr):
    """|x_i − y_j|² of products and norms (own [BM, 1], other [1, BN]), and where that has too few digits."""
    # rounds to smaller numbers than (own + other) − 2 · product
    squared = (own - product) + (other - product)
    share: tl.constexpr = CLOSE if PRECISION == "ieee" else CLOSE_TF32
    return tl.maximum(squared, 0.0), squared < share * (own + other)


@triton.jit
def product_distances(x, y, i, j, rows, columns, width, apart, PRECISION: tl.constexpr, BK: tl.constexpr):
    """|x_i − y_j|² [BM, BN] as the product gives it, and which pairs are close: those it gives too few digits of.

    A row is not close to itself.
    """
    own = tl.load(x.norm + i, mask=i < rows, other=0.0)[:, None]
    other = tl.load(y.norm + j, mask=j < columns, other=0.0)[None, :]
    product = inner_products(x, y, i, j, rows, columns, width, PRECISION, BK)
    squared, close = _squares(product, own, other, "ieee" if is_half(x) else PRECISION)
    close = close & (i < rows)[:, None] & (j < columns)[None, :] & (i[:, None] != j[None, :] + apart)
    return squared, close


@triton.jit
def tile_distances(
    x,
    y,
    i,
    j,
    rows,
    columns,
    width,
    apart,
    METRIC: tl.constexpr,
    PRECISION: tl.constexpr,
    BK: tl.constexpr,
):
    """The metric's distances [BM, BN] and the close pairs among them; inner products know none."""
    if METRIC == "dot":
        d = inner_products(x, y, i, j, rows, columns, width, PRECISION, BK)
        close = tl.zeros([i.shape[0], j.shape[0]], tl.int1)
    else:
        squared, close = product_distances(x, y, i, j, rows, columns, width, apart, PRECISION, BK)
        d = to_metric(squared, METRIC)
    return d, close


@triton.jit
def near_distances(
    x,
    y,
    i,
    j,
    rows,
    columns,
    width,
    apart,
    PRECISION: tl.constexpr,
    LOCAL: tl.constexpr,
    BK: tl.constexpr,
):
    """|x_i − y_j|² with close pairs made right; which pairs were close; which of them not by products.

    Pairs of a cluster by the product of its local rows, of precision LOCAL; what is close even there, and the few
    others, from the rows' difference.
    """
    squared, close = product_distances(x, y, i, j, rows, columns, width, apart, PRECISION, BK)
    cluster = tl.load(x.cluster + i, mask=i < rows, other=-1)[:, None]
    shared = close & (cluster == tl.load(y.cluster + j, mask=j < columns, other=-1)[None, :]) & (cluster >= 0)
    apiece = close
    if any_set(shared) > 0:
        product = products(x.local, y.local, i, j, rows, columns, width, LOCAL, BK)
        own = tl.load(x.local_norm + i, mask=i < rows, other=0.0)[:, None]
        other = tl.load(y.local_norm + j, mask=j < columns, other=0.0)[None, :]
        local, closer = _squares(product, own, other, LOCAL)
        apiece = close & (closer | ~shared)
        squared = tl.where(shared, local, squared)
    return _repair(squared, apiece, x, y, i, j, rows, width, BK), close, apiece


@triton.jit
def any_set(mask):
    """Is any element of mask [BM, BN] set? int32, 1 or 0."""
    return tl.max(tl.max(mask.to(tl.int32), 1), 0)


@triton.jit
def first_set(flags, after):
    """The first position above `after` in flags [N] (int32) that is not 0, or N."""
    place = tl.arange(0, flags.shape[0])
    return tl.min(tl.where((flags != 0) & (place > after), place, flags.shape[0]), 0)


@triton.jit
def split_factor(u):
    """A factor (fp32 or fp64, positive or 0) as a power of two and a rest in [1, 2)."""
    if u.dtype == tl.float64:
        bits = u.to(tl.int64, bitcast=True)
        power = (bits & 0x7FF0000000000000).to(tl.float64, bitcast=True)
        rest = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        bits = u.to(tl.int32, bitcast=True)
        power = (bits & 0x7F800000).to(tl.float32, bitcast=True)
        rest = ((bits & 0x007FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    return power, rest


@triton.jit
def _scaled_difference(a, b, u, v):
    """a·u − b·v, exactly 0 for copies; b·v − a·u has the same bits.

    Powers of two come out exactly and leave two terms of one size. Not the plain form, which a fused multiply-add
    would make non-zero for copies.
    """
    power, rest = split_factor(u)
    their_power, their_rest = split_factor(v)
    a *= power
    b *= their_power
    return (a - b) * (0.5 * (rest + their_rest)) + (rest - their_rest) * (0.5 * (a + b))


@triton.jit
def difference(x, y, i, j, k, rows, width):
    """x_i − y_j at features k, for rows i and one column j: [I, K]; exactly 0 for copies."""
    raw = load_rows(x.rows, i, k, rows, width).to(tl.float32)
    other = load_row(y.rows, j, k, width).to(tl.float32)[None, :]
    if is_half(x):
        factor = tl.load(x.inverse + i, mask=i < rows, other=0.0)[:, None]
        return _scaled_difference(raw, other, factor, tl.load(y.inverse + j))
    low = load_rows(x.low, i, k, rows, width) - load_row(y.low, j, k, width)[None, :]
    return (raw - other) + low


@triton.jit
def difference_to(x, y, i, j, k, there, width):
    """x_i − y_j at features k, for rows i and a row j [I] of y for each: [I, K]; 0 where not `there` [I]."""
    inside = there[:, None] & (k < width)[None, :]
    at = i.to(tl.int64)[:, None] * width + k[None, :]
    to = j.to(tl.int64)[:, None] * width + k[None, :]
    raw = tl.load(x.rows + at, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(y.rows + to, mask=inside, other=0.0).to(tl.float32)
    if is_half(x):
        factor = tl.load(x.inverse + i, mask=there, other=0.0)[:, None]
        return _scaled_difference(raw, other, factor, tl.load(y.inverse + j, mask=there, other=0.0)[:, None])
    low = tl.load(x.low + at, mask=inside, other=0.0) - tl.load(y.low + to, mask=inside, other=0.0)
    return (raw - other) + low


@triton.jit
def _repair(squared, close, x, y, i, j, rows, width, BK: tl.constexpr):
    place = tl.arange(0, j.shape[0])
    waiting = tl.max(close.to(tl.int32), 0)  # [BN]
    at = first_set(waiting, -1)
    while at < j.shape[0]:
        column = tl.min(j, 0) + at
        total = tl.zeros([i.shape[0]], tl.float32)
        for k0 in range(0, width, BK):
            delta = difference(x, y, i, column, k0 + tl.arange(0, BK), rows, width)
            total += tl.sum(delta * delta, 1)
        squared = tl.where(close & (place == at)[None, :], total[:, None], squared)
        at = first_set(waiting, at)
    return squared


@triton.jit
def to_metric(squared, METRIC: tl.constexpr):
    """A distance of its square."""
    if METRIC == "euclidean":
        return tl.sqrt(squared)
    elif METRIC == "cosine":
        return 0.5 * squared
    else:
        return squared


@triton.jit
def edge_factor(distance, METRIC: tl.constexpr):
    """d distance / d x = factor · (x − y), 0 at distance 0; of an inner product factor · y."""
    if METRIC == "euclidean":
        return tl.where(distance > 0.0, 1.0 / tl.where(distance > 0.0, distance, 1.0), 0.0)
    elif METRIC == "sqeuclidean":
        return distance * 0.0 + 2.0
    else:
        return distance * 0.0 + 1.0


@triton.jit
def kinds(i, j, begin, end, rows, columns, apart):
    """Masks [BM, BN] of the positive and of the negative pairs; begin, end [BM]: the rows' positives among the
    columns.
    """
    inside = (i < rows)[:, None] & (j < columns)[None, :]
    same = (j[None, :] >= begin[:, None]) & (j[None, :] < end[:, None])
    return inside & same & (i[:, None] != j[None, :] + apart), inside & ~same


@triton.jit
def load_ranges(begin, end, i, rows):
    """The rows' positives [begin, end); none for a row beyond the end."""
    first = tl.load(begin + i, mask=i < rows, other=0)
    last = tl.load(end + i, mask=i < rows, other=0)
    return first, last


@triton.jit
def band(first, last, i, rows):
    """The columns [begin, end) that hold all positives of a row block; begin ≥ end if there are none."""
    some = (i < rows) & (first < last)
    return tl.min(tl.where(some, first, 2147483647), 0), tl.max(tl.where(some, last, 0), 0)


@triton.jit
def tiles_of(part, parts, count, some, most, BN: tl.constexpr, BAND: tl.constexpr):
    """The tiles [start, stop) of `count` in one share of the columns, with BAND those of them that hold positives."""
    share = tl.cdiv(count, parts)
    start = part * share
    stop = tl.minimum(start + share, count)
    if BAND:
        start = tl.maximum(start, some // BN)
        stop = tl.minimum(stop, tl.cdiv(most, BN))
    return start, stop


@triton.jit
def hide_lost(distance, x, y, i, j, rows, columns, NOWHERE: tl.constexpr):
    """Rows that are not finite are infinitely far from every other: their distances become NOWHERE."""
    own = tl.load(x.finite + i, mask=i < rows, other=0)
    other = tl.load(y.finite + j, mask=j < columns, other=0)
    return tl.where((own != 0)[:, None] & (other != 0)[None, :], distance, NOWHERE)


@triton.jit
def load_members(pointer, i, rows, COUNT: tl.constexpr):
    """A tuple of COUNT vectors [I] from a table [COUNT, rows]."""
    members = ()
    for m in tl.static_range(COUNT):
        members = members + (tl.load(pointer + tl.cast(m * rows, tl.int64) + i, mask=i < rows, other=0.0),)  # type: ignore[assignment]
    return members


@triton.jit
def by_rows(members):
    """Vectors [BM] that go with a tile's rows: each [BM, 1]."""
    spread = ()
    for m in tl.static_range(len(members)):
        spread = spread + (members[m][:, None],)
    return spread


@triton.jit
def by_columns(members):
    """Vectors [BN] that go with a tile's columns: each [1, BN]."""
    spread = ()
    for m in tl.static_range(len(members)):
        spread = spread + (members[m][None, :],)
    return spread

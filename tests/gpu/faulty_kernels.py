"""Small kernels, each with a fault that a constexpr switches on, for the tests of the strict interpreter."""

import triton
import triton.language as tl


@triton.jit
def copy_rows(source, target, n, FAULT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n + (1 if FAULT == "load past the end" else 0)
    if FAULT == "load before the start":
        i -= tl.where(tl.program_id(0) == 0, 1, 0)
    values = tl.load(source + i, mask=inside, other=0.0)
    tl.store(target + i, values, mask=i < n + (1 if FAULT == "store past the end" else 0))


@triton.jit
def copy_columns(source, target, stride, m, n, FAULT: tl.constexpr, BLOCK: tl.constexpr):
    i, j = tl.program_id(0), tl.arange(0, BLOCK)
    width = n + 1 if FAULT == "between rows" else n
    values = tl.load(source + i * stride + j, mask=j < width, other=0.0)
    tl.store(target + i * n + j, values, mask=j < n)


@triton.jit
def last_row(source, target, rows, stride, FAULT: tl.constexpr):
    row = tl.load(rows)
    offset = row * stride if FAULT == "overflow" else row.to(tl.int64) * stride
    value = tl.load(source + offset // stride)
    tl.store(target, value)


@triton.jit
def as_pairs(source, target, FAULT: tl.constexpr):
    pair = (source + (1 if FAULT == "misaligned" else 2)).to(tl.pointer_type(tl.int64))
    tl.store(target, tl.load(pair))


@triton.jit
def total(source, target, n, FAULT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if FAULT == "no other":
        values = tl.load(source + i, mask=i < n)
    else:
        values = tl.load(source + i, mask=i < n, other=0)
    tl.store(target, tl.sum(values, 0))


@triton.jit
def scalar_other(source, target, n):
    tl.store(target, tl.load(source + n, mask=n < 0, other=0.0))


@triton.jit
def scale(rows, p, target, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(rows.values + i) * (p.factor + 1 - p.factor))


@triton.jit
def difference(x, u, y, v, target, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    left, right = tl.load(x + i), tl.load(y + i)
    tl.store(target + i, left * tl.load(u + i) - right * tl.load(v + i))


@triton.jit
def scatter(target, FAULT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(target + i // 2, i if FAULT == "different values" else i // 2)


@triton.jit
def count(source, target, FAULT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ones = tl.sum(tl.load(source + i), 0)
    if FAULT == "plain update":
        tl.store(target, tl.load(target) + ones)
    elif FAULT == "plain store":
        tl.store(target, ones)
    elif FAULT == "read while updated":
        tl.atomic_add(target, ones)
        tl.store(target + 1 + tl.program_id(0), tl.load(target))
    elif FAULT == "written, then read":
        tl.store(target + tl.program_id(0), ones)
        tl.store(target + 8 + tl.program_id(0), tl.load(target + (tl.program_id(0) + 1) % 4))
    else:
        tl.atomic_add(target, ones)


@triton.jit
def shift(data, FAULT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(data + i, tl.load(data + i + (1 if FAULT == "neighbour" else 0)) + 1)


@triton.jit
def add_views(left, right, target, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(left + i) + tl.load(right + i))


@triton.jit
def programs(target, order):
    tl.store(target + tl.program_id(0) * 2 + tl.program_id(1), tl.atomic_add(order, 1))


@triton.jit
def arithmetic(source, target, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(source + i)
    if FUNCTION == "multiply-add":
        y = x * x + x
    elif FUNCTION == "compare":
        y = tl.where(x > 0, x, -x)
    elif FUNCTION == "halve":
        y = (x.to(tl.float32) * 0.5).to(x.dtype)
    elif FUNCTION == "exp":
        y = tl.exp(x.to(tl.float32)).to(x.dtype)
    elif FUNCTION == "clamp":
        y = tl.clamp(x, -0.5, 0.5)
    elif FUNCTION == "half":
        y = x.to(tl.float16).to(x.dtype)
    elif FUNCTION == "count":
        y = (x > 0).to(x.dtype)
    else:
        y = tl.maximum(x, 0.25)
    tl.store(target + i, y)


@triton.jit
def product(a, b, c, PRECISION: tl.constexpr, M: tl.constexpr, K: tl.constexpr):
    i, k = tl.arange(0, M), tl.arange(0, K)
    x = tl.load(a + i[:, None] * K + k[None, :])
    y = tl.load(b + i[None, :] * K + k[:, None])
    tl.store(c + i[:, None] * M + i[None, :], tl.dot(x, y, input_precision=PRECISION))


@triton.jit
def lexicographic(v, i, w, j):
    take = (w < v) | ((w == v) & (j < i))
    return tl.where(take, w, v), tl.where(take, j, i)


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def reductions(source, values, places, sums, products, M: tl.constexpr, N: tl.constexpr):
    i, j = tl.arange(0, M), tl.arange(0, N)
    x = tl.load(source + i[:, None] * N + j[None, :])
    least, place = tl.reduce((x, tl.broadcast_to(j[None, :], [M, N])), 1, lexicographic)
    tl.store(values + i, least)
    tl.store(places + i, place)
    tl.store(places + M + i, tl.argmin(x, 1))
    tl.store(places + 2 * M + i, tl.argmin(x, 1, tie_break_left=False))
    tl.store(sums + i, tl.reduce(x, 1, add))
    tl.store(sums + M, tl.reduce(x, None, add))
    tl.store(products + i[:, None] * N + j[None, :], tl.associative_scan(x, 1, multiply))


def smallest_block(n: int) -> list[triton.Config]:
    return [triton.Config({"BLOCK": block}) for block in (4, 8, 16)]


@triton.autotune(configs=smallest_block(16), key=["n"])
@triton.jit
def tuned(source, target, chosen, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + i, tl.load(source + i, mask=i < n, other=0.0), mask=i < n)
    tl.atomic_max(chosen, BLOCK)

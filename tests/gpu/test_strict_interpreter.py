"""The strict interpreter itself: every fault it claims to catch, and the clean twin of each that it lets pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("kernels are compiled here, not interpreted", allow_module_level=True)

from . import faulty_kernels as kernels  # noqa: E402
from . import strict_interpreter  # noqa: E402
from .strict_interpreter import StrictError  # noqa: E402

strict_interpreter.install()

PAIRS = torch.arange(8, dtype=torch.int32)


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int32)


def copy_rows(fault: str) -> None:
    buffer, target = torch.arange(64.0), torch.full((20,), torch.nan)
    source = buffer[8:28]  # what lies around it belongs to nobody's argument
    kernels.copy_rows[(2,)](source, target, 20, fault, 16)
    assert target.equal(source)


def copy_columns(fault: str) -> None:
    source, target = torch.arange(60.0).view(5, 12)[:, 2:9], torch.full((5, 7), torch.nan)
    kernels.copy_columns[(5,)](source, target, 12, 5, 7, fault, 8)
    assert target.equal(source)


def last_row(fault: str) -> None:
    source, target, rows = torch.arange(8.0), torch.zeros(1), torch.tensor([7], dtype=torch.int32)
    kernels.last_row[(1,)](source, target, rows, 2**29, fault)
    assert target.item() == 7


def as_pairs(fault: str) -> None:
    target = torch.zeros(1, dtype=torch.int64)
    kernels.as_pairs[(1,)](PAIRS, target, fault)
    assert target.item() == PAIRS[2:4].view(torch.int64).item()


def scatter(fault: str) -> None:
    target = ints(8)
    kernels.scatter[(1,)](target, fault, 16)
    assert target.equal(PAIRS)


def count(fault: str) -> None:
    target = torch.zeros(16)
    kernels.count[(4,)](torch.ones(32), target, fault, 8)
    assert target[0] == 32


def shift(fault: str) -> None:
    data = torch.zeros(33)
    kernels.shift[(2,)](data, fault, 16)
    assert data[:32].eq(1).all()


FAULTS: list[tuple[Callable[[str], None], str, str]] = [
    (copy_rows, "load past the end", "load out of bounds: element 20 of source, which has 20"),
    (copy_rows, "load before the start", "load out of bounds: element -1 of source"),
    (copy_rows, "store past the end", "store out of bounds: element 20 of target, which has 20"),
    (
        copy_columns,
        "between rows",
        r"load out of bounds: (between the rows of the view|element 55 of) source",
    ),
    (last_row, "overflow", "signed int32 overflow in mul"),
    (as_pairs, "misaligned", "misaligned load of 8 bytes in source"),
    (scatter, "different values", "one store writes different values"),
    (count, "plain update", r"race on target\[0\]: (load|store) by program"),
    (count, "plain store", r"race on target\[0\]: store by program .*, store by program"),
    (count, "read while updated", r"race on target\[0\]: (load|atomic) by program .*, (load|atomic) by"),
    (count, "written, then read", r"race on target\[\d\]: (load|store) by program"),
    (shift, "neighbour", r"race on data\[16\]"),
]


@pytest.mark.parametrize(
    ("run", "fault", "message"), FAULTS, ids=lambda v: v if isinstance(v, str) else v.__name__
)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_a_fault_is_caught_and_its_twin_passes(
    run: Callable[[str], None], fault: str, message: str, seed: int | None
) -> None:
    with strict_interpreter.options(seed=seed):
        run("none")
        with pytest.raises(StrictError, match=rf"^faulty_kernels.py:\d+: ({message})"):
            run(fault)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64])
def test_lanes_without_other_are_poisoned(dtype: torch.dtype) -> None:
    source, target = torch.ones(12, dtype=dtype), torch.zeros(1, dtype=torch.float64)
    kernels.total[(1,)](source, target, 12, "none", 16)
    assert target.item() == 12
    kernels.total[(1,)](source, target, 12, "no other", 16)
    assert target.isnan() if dtype.is_floating_point else target != 12


def test_other_of_a_scalar_load_counts() -> None:
    target = torch.ones(1)
    kernels.scalar_other[(1,)](torch.ones(4), target, 3)
    assert target.item() == 0


class Rows(NamedTuple):
    values: torch.Tensor
    size: int


class Parameters(NamedTuple):
    factor: float


def test_arguments_in_tuples_are_known_by_name_and_numbers_are_fp32() -> None:
    target = torch.zeros(8)
    kernels.scale[(1,)](Rows(torch.ones(8), 8), Parameters(2.0**25), target, 8)
    assert target.eq(0).all()  # 2²⁵ + 1 = 2²⁵
    with pytest.raises(StrictError, match=r"element 7 of rows\.values, which has 7"):
        kernels.scale[(1,)](Rows(torch.ones(7), 8), Parameters(1.0), target, 8)


def test_arguments_may_share_memory_and_races_are_found_through_it() -> None:
    data = torch.arange(48.0)
    kernels.add_views[(2,)](data[:32], data, data[:32], 16)  # each program in its own part
    assert data[:32].equal(torch.arange(32.0) * 2)
    with pytest.raises(StrictError, match=r"race on (left|target)"):
        kernels.add_views[(2,)](data[:32], data[:32], data[8:40], 16)


def test_programs_run_in_the_order_of_the_seed() -> None:
    def order(seed: int | None) -> list[int]:
        target, counter = ints(16), ints(1)
        with strict_interpreter.options(seed=seed):
            kernels.programs[(8, 2)](target, counter)
        return target.tolist()

    assert order(None) == list(range(16))
    assert sorted(order(1)) == list(range(16))
    assert order(1) == order(1) != order(2)


EXPECTED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "multiply-add": lambda x: x * x + x,
    "compare": torch.abs,
    "halve": lambda x: x * 0.5,
    "exp": torch.exp,
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "half": lambda x: x.half().to(x.dtype),
    "count": lambda x: (x > 0).to(x.dtype),
    "maximum": lambda x: x.clamp_min(0.25),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", EXPECTED)
def test_arithmetic_rounds_as_torch_does(function: str, dtype: torch.dtype) -> None:
    source = torch.randn(512, generator=torch.Generator().manual_seed(0)).to(dtype)
    target = torch.full_like(source, torch.nan)
    with strict_interpreter.options(contract=False):
        kernels.arithmetic[(1,)](source, target, function, 512)
    expected = EXPECTED[function](source)
    if function == "exp":
        torch.testing.assert_close(target, expected)
    else:
        assert target.equal(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_products_round_once_or_twice(dtype: torch.dtype) -> None:
    x, u = torch.rand(2, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)
    once, twice = torch.full((2, 64), torch.nan, dtype=dtype)
    with strict_interpreter.options(contract=True):
        kernels.difference[(1,)](x, u, x, u, once, 64)
    with strict_interpreter.options(contract=False):
        kernels.difference[(1,)](x, u, x, u, twice, 64)
    assert twice.eq(0).all()
    assert once.ne(0).any()
    assert once.abs().max() < torch.finfo(dtype).eps


def matrix_product(a: torch.Tensor, b: torch.Tensor, precision: str) -> torch.Tensor:
    c = torch.full((len(a), len(b)), torch.nan)
    kernels.product[(1,)](a, b, c, precision, *a.shape)
    return c


def truncated(x: torch.Tensor) -> torch.Tensor:
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


def test_products_have_the_precision_of_their_kind() -> None:
    a, b = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ b.double().T
    error = {p: (matrix_product(a, b, p) - exact).abs().max().item() for p in ("ieee", "tf32x3", "tf32")}
    assert error["ieee"] < 2e-5 > error["tf32x3"]
    assert 1e-3 < error["tf32"] < 1e-1
    tf32 = truncated(a).double() @ truncated(b).double().T
    torch.testing.assert_close(matrix_product(a, b, "tf32").double(), tf32, rtol=0, atol=2e-5)
    # What three products of truncated parts leave out is the product of the small parts, and truncation's rest.
    assert (matrix_product(a * 2**-10, b, "tf32x3") * 2**10 - exact).abs().max() < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_of_16_bit_operands_sum_in_fp32(dtype: torch.dtype) -> None:
    a, b = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = a.double() @ b.double().T
    torch.testing.assert_close(matrix_product(a, b, "ieee").double(), exact, rtol=0, atol=2e-5)


def test_equal_rows_give_equal_products() -> None:
    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    same = matrix_product(row.expand(32, 64).contiguous(), row.expand(32, 64).contiguous(), "ieee")
    assert same.eq(same[0, 0]).all()


def test_three_tf32_products_keep_infinities() -> None:
    a = torch.ones(16, 16)
    a[0, 0] = torch.inf
    assert matrix_product(a, torch.ones(16, 16), "tf32x3")[0].eq(torch.inf).all()


def test_reductions_and_scans_of_any_combine_function() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 4, (4, 32), generator=generator).float()
    values, places = torch.full((4,), torch.nan), torch.full((3, 4), -1, dtype=torch.int32)
    sums, products = torch.full((5,), torch.nan), torch.full((4, 32), torch.nan)
    kernels.reductions[(1,)](x, values, places, sums, products, 4, 32)
    ties = x == x.min(1, keepdim=True).values
    first, last = ties.int().argmax(1).int(), 31 - ties.flip(1).int().argmax(1).int()
    assert values.equal(x.min(1).values)
    assert places.equal(torch.stack([first, first, last]))
    assert sums.equal(torch.cat([x.sum(1), x.sum()[None]]))
    torch.testing.assert_close(products, x.cumprod(1))


@pytest.mark.parametrize(("index", "block"), [(0, 4), (1, 8), (2, 16), (3, 4)])
def test_an_autotuned_kernel_runs_the_configuration_asked_for(index: int, block: int) -> None:
    source, target, chosen = torch.arange(16.0), torch.full((16,), torch.nan), ints(1)
    with strict_interpreter.options(configuration=index):
        kernels.tuned[lambda meta: (triton.cdiv(16, meta["BLOCK"]),)](source, target, chosen, 16)
    assert chosen.item() == block
    assert target.equal(source)


@pytest.mark.parametrize(
    ("name", "parameters", "found"),
    [("InterpreterBuilder.create_trans", "self arg", "self arg perm"), ("_no_such_function", "fn", "None")],
)
def test_it_refuses_a_triton_that_it_does_not_know(
    name: str, parameters: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_interpreter, "_original", {})
    monkeypatch.setattr(strict_interpreter, "KNOWN", {name: parameters})
    with pytest.raises(RuntimeError, match=rf"has {name}\({found}\), known is \({parameters}\)"):
        strict_interpreter.install()

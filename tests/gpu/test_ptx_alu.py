"""The emulator's arithmetic, one instruction at a time, against values worked out by hand or by NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from .ptx import PTXError
from .ptx.formats import decode, encode, round_bf16, widen_bf16
from .ptx.snippets import apply

U32, I32, F32, U64, I64, U16 = np.uint32, np.int32, np.float32, np.uint64, np.int64, np.uint16
INF, NAN = np.inf, np.nan


def f32(*values: float) -> np.ndarray:
    return np.array(values, F32)


def u32(*values: int) -> np.ndarray:
    return np.array([v & 0xFFFFFFFF for v in values], U32)


CASES = [
    ("add.s32 %z, %a, %b;", (u32(2**31 - 1, -5),), u32(1), "i4", [-(2**31), -4]),
    ("sub.u32 %z, %a, %b;", (u32(3),), u32(5), "u4", [2**32 - 2]),
    ("mul.lo.s32 %z, %a, %b;", (u32(-7, 1 << 20),), u32(1 << 13), "i4", [-7 << 13, 0]),
    ("mul.hi.u32 %z, %a, %b;", (u32(-1),), u32(-1), "u4", [2**32 - 2]),
    ("mul.hi.s32 %z, %a, %b;", (u32(-3),), u32(1 << 30), "i4", [-1]),
    ("mul.wide.s32 %z, %a, %b;", (u32(-3),), u32(1 << 30), "i8", [-3 << 30]),
    ("div.s32 %z, %a, %b;", (u32(-7, 7),), u32(2), "i4", [-3, 3]),
    ("rem.s32 %z, %a, %b;", (u32(-7, 7),), u32(2), "i4", [-1, 1]),
    ("shl.b32 %z, %a, %b;", (u32(3),), u32(31, 32), "u4", [1 << 31, 0]),
    ("shr.s32 %z, %a, %b;", (u32(-8),), u32(1, 40), "i4", [-4, -1]),
    ("shr.u32 %z, %a, %b;", (u32(-8),), u32(28, 32), "u4", [15, 0]),
    ("shf.l.wrap.b32 %z, %a, %b, 8;", (u32(0x11223344),), u32(0x55667788), "u4", [0x66778811]),
    ("shf.r.wrap.b32 %z, %a, %b, 8;", (u32(0x11223344),), u32(0x55667788), "u4", [0x88112233]),
    ("prmt.b32 %z, %a, %b, 0x5410;", (u32(0x11223344),), u32(0x55667788), "u4", [0x77883344]),
    ("prmt.b32 %z, %a, %b, 0xba98;", (u32(0x11F23384),), u32(0), "u4", [0x00FF00FF]),
    ("bfe.u32 %z, %a, 4, %b;", (u32(0xABCD),), u32(8), "u4", [0xBC]),
    ("bfe.s32 %z, %a, 4, %b;", (u32(0xABCD),), u32(8), "i4", [0xBC - 256]),
    ("bfi.b32 %z, %a, %b, 4, 8;", (u32(0xF5),), u32(0x12345678), "u4", [0x12345F58]),
    ("lop3.b32 %z, %a, %b, %a, 0x3c;", (u32(0b1100),), u32(0b1010), "u4", [0b0110]),
    ("min.s32 %z, %a, %b;", (u32(-1, 4),), u32(2), "i4", [-1, 2]),
    ("min.u32 %z, %a, %b;", (u32(-1, 4),), u32(2), "u4", [2, 2]),
    ("max.f32 %z, %a, %b;", (f32(NAN, 1),), f32(2), "f4", [2, 2]),
    ("max.NaN.f32 %z, %a, %b;", (f32(NAN, 1),), f32(2), "f4", [NAN, 2]),
    ("mul.ftz.f32 %z, %a, %b;", (f32(1e-30, 1e-20),), f32(1e-10), "f4", [0, 1e-30]),
    ("add.sat.f32 %z, %a, %b;", (f32(0.75, -3, NAN),), f32(0.5), "f4", [1, 0, 0]),
    ("fma.rn.f32 %z, %a, %a, %b;", (f32(1 + 2**-12),), f32(-1 - 2**-11), "f4", [2**-24]),
    ("fma.rm.f32 %z, %a, %a, %b;", (f32(1.25, -1.25),), f32(2.0**24), "f4", [2.0**24, 2.0**24]),
    ("fma.rm.f32 %z, %a, %b, %b;", (f32(-0.25),), f32(2.0**24), "f4", [0.75 * 2**24]),
    ("add.rz.f32 %z, %a, %b;", (f32(2.0**24, -(2.0**24)),), f32(1.5), "f4", [2.0**24, -(2.0**24) + 2]),
    ("add.rp.f32 %z, %a, %b;", (f32(2.0**24),), f32(0.5), "f4", [2.0**24 + 2]),
    ("sub.rm.f32 %z, %a, %b;", (f32(2.0**24),), f32(0.25), "f4", [2.0**24 - 1]),
    ("div.full.f32 %z, %a, %b;", (f32(1, -1),), f32(0, 4), "f4", [INF, -0.25]),
    ("copysign.f32 %z, %a, %b;", (f32(-1),), f32(3), "f4", [-3]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "first", "second", "result", "expected"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_binary(text, first, second, result, expected):
    got = apply(text, *first, second, result=result)
    np.testing.assert_array_equal(got[: len(expected)], np.array(expected).astype(result))


UNARY = [
    ("popc.b32 %z, %a;", u32(0xFF0F, 0), "u4", [12, 0]),
    ("popc.b64 %z, %a;", np.array([2**64 - 1], U64), "u4", [64]),
    ("clz.b32 %z, %a;", u32(0, 1, 0x80000000), "u4", [32, 31, 0]),
    ("bfind.shiftamt.u32 %z, %a;", u32(1, 0, 1 << 31), "u4", [31, 2**32 - 1, 0]),
    ("bfind.u32 %z, %a;", u32(5, 0), "u4", [2, 2**32 - 1]),
    ("brev.b32 %z, %a;", u32(1, 0x0F), "u4", [1 << 31, 0xF0000000]),
    ("cvt.sat.f32.f32 %z, %a;", f32(1.5, -2, 0.25, NAN), "f4", [1, 0, 0.25, 0]),
    ("neg.f32 %z, %a;", f32(1.5), "f4", [-1.5]),
    ("abs.s32 %z, %a;", u32(-4), "i4", [4]),
    ("ex2.approx.ftz.f32 %z, %a;", f32(3, -INF), "f4", [8, 0]),
    ("lg2.approx.f32 %z, %a;", f32(8, 0), "f4", [3, -INF]),
    ("sqrt.rn.f32 %z, %a;", f32(9, -1), "f4", [3, NAN]),
    ("rsqrt.approx.f32 %z, %a;", f32(4, 0), "f4", [0.5, INF]),
    ("cvt.rzi.s32.f32 %z, %a;", f32(-2.7, 1e20, NAN), "i4", [-2, 2**31 - 1, 0]),
    ("cvt.rni.s32.f32 %z, %a;", f32(2.5, 3.5), "i4", [2, 4]),
    ("cvt.rmi.f32.f32 %z, %a;", f32(-2.5), "f4", [-3]),
    ("cvt.rn.f32.s64 %z, %a;", np.array([-(2**40)], I64), "f4", [-(2.0**40)]),
    ("cvt.s64.s32 %z, %a;", u32(-2), "i8", [-2]),
    ("cvt.u64.u32 %z, %a;", u32(-2), "u8", [2**32 - 2]),
    ("cvt.u32.u64 %z, %a;", np.array([2**33 + 5], U64), "u4", [5]),
    ("cvt.f32.bf16 %z, %a;", np.array([0x3FC0], U16), "f4", [1.5]),
    ("cvt.f32.f16 %z, %a;", np.array([1.5], np.float16), "f4", [1.5]),
    ("cvt.rn.f16.f32 %z, %a;", f32(1 + 2**-11, 1e6), "f2", [1, INF]),
    ("cvt.rna.tf32.f32 %z, %a;", f32(1 + 2**-11, 1 + 2**-12), "f4", [1 + 2**-10, 1]),
    ("mov.b32 %z, 0f3F800000;", u32(0), "f4", [1]),
    ("{ .reg .b16 %x, %y; mov.b32 {%x, %y}, %a; mov.b32 %z, {%y, %x}; }", u32(0x11112222), "u4", [0x22221111]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "given", "result", "expected"), UNARY, ids=lambda v: v if isinstance(v, str) else ""
)
def test_unary(text, given, result, expected):
    got = apply(text, given, result=result)
    np.testing.assert_array_equal(got[: len(expected)], np.array(expected).astype(result))


def test_bf16_rounds_to_nearest_even():
    exact = f32(1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -INF)
    assert widen_bf16(round_bf16(exact)).tolist() == [1, 1, 1 + 2**-6, 1 + 2**-7, -INF]
    assert np.isnan(widen_bf16(round_bf16(f32(NAN)))).all()


@pytest.mark.parametrize("kind", ["bf16x2", "f16x2"])
def test_packed_conversion_puts_the_second_operand_low(kind):
    bits = apply(f"cvt.rn.{kind}.f32 %z, %a, %b;", f32(2.0), f32(-1.5), result="u4")
    assert decode(bits, kind)[0].tolist() == [-1.5, 2.0]


def test_packed_fma():
    pairs = encode(np.array([[1.5, -2.0]], F32), "bf16x2")
    bits = apply("fma.rn.bf16x2 %z, %a, %a, %a;", pairs, result="u4")
    assert decode(bits, "bf16x2")[0].tolist() == [3.75, 2.0]


COMPARED = {"lt": [1, 0, 0], "ge": [0, 1, 0], "geu": [0, 1, 1], "ne": [1, 0, 0], "neu": [1, 0, 1],
            "num": [1, 1, 0], "nan": [0, 0, 1]}  # fmt: skip


@pytest.mark.parametrize(("how", "expected"), COMPARED.items())
def test_comparisons_of_floats_know_nan(how, expected):
    text = f"setp.{how}.f32 %p, %a, %b; selp.b32 %z, 1, 0, %p;"
    assert apply(text, f32(1, 2, NAN), f32(2), result="u4")[:3].tolist() == expected


def test_setp_combines_with_a_negated_predicate():
    text = "setp.lt.s32 %p, %a, 0; setp.gt.and.s32 %p, %a, -5, %p; selp.b32 %z, 1, 0, %p;".replace(
        "gt.and", "gt.and"
    )
    assert apply(text, u32(-9, -1, 3), result="u4")[:3].tolist() == [0, 1, 0]
    text = "setp.lt.s32 %p, %a, 0; setp.gt.or.s32 %p, %a, 2, !%p; selp.b32 %z, 1, 0, %p;"
    assert apply(text, u32(-9, 1, 3), result="u4")[:3].tolist() == [0, 1, 1]


def test_what_is_unknown_is_an_error():
    with pytest.raises(PTXError, match="not emulated: frobnicate"):
        apply("frobnicate.b32 %z, %a;", u32(1), result="u4")

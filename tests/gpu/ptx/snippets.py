"""Small kernels for the emulator's own tests: a body is put between loading and storing one value a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .formats import Array
from .machine import Machine
from .parser import parse

FRAME = """
.version 8.7
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 smem[];
.visible .entry snippet(.param .u64 .ptr .global .align 1 out, .param .u64 in, .param .u32 n)
.reqntid {threads}
{{
  .reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<64>; .reg .f32 %f<64>; .reg .b64 %rd<32>; .reg .f64 %d<8>;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  ld.param.u32 %r3, [n];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, {width};
  add.s64 %rd4, %rd1, %rd3;   // this thread's result
  add.s64 %rd5, %rd2, %rd3;   // this thread's input
  shl.b32 %r2, %r1, 2;        // its word of shared memory
  {body}
  ret;
}}
"""


def run(
    body: str, given: Array, threads: int = 64, shared: int = 0, *, n: int = 0, machine: Machine | None = None
) -> Array:
    """What the body stored at [%rd4]: as many words as `given`, of its type."""
    out = np.full_like(given, -1 if given.dtype.kind == "i" else 77)
    text = FRAME.format(threads=threads, body=body, width=given.itemsize)
    (machine or Machine()).launch(parse(text), [1], threads, [out, given, n], shared)
    return out


def apply(instruction: str, *inputs: Sequence[Any], result: str, shift: int | None = None) -> Array:
    """One instruction with operands %a, %b, %c and result %z, on 32 lanes: inputs are repeated to fill them."""
    arrays = [np.resize(np.ascontiguousarray(column), 32) for column in inputs]
    out = np.zeros(32, result)
    lines, arguments, parameters = [], [], []
    declared = "".join(
        f".reg .b{8 * array.itemsize} %{name};" for name, array in zip("abc", arrays, strict=False)
    )
    for name, array in zip("abc", arrays, strict=False):
        parameters.append(f".param .u64 {name}")
        arguments.append(array)
        lines.append(f"ld.param.u64 %at, [{name}]; mad.wide.u32 %at, %t, {array.itemsize}, %at;")
        lines.append(f"ld.global.b{8 * array.itemsize} %{name}, [%at];")
    lines += [instruction, f"ld.param.u64 %at, [z]; mad.wide.u32 %at, %t, {out.itemsize}, %at;"]
    lines.append(f"st.global.b{8 * out.itemsize} [%at], %z;")
    text = (
        f".visible .entry one({', '.join([*parameters, '.param .u64 z'])}) {{ .reg .b64 %at; .reg .b32 %t; {declared}"
        f".reg .b{8 * out.itemsize} %z; .reg .pred %p; mov.u32 %t, %tid.x; {' '.join(lines)} ret; }}"
    )
    Machine().launch(parse(text), [1], 32, [*arguments, out])
    return out

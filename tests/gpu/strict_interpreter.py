"""Triton's CPU interpreter, made strict and truthful: what a GPU would get wrong raises StrictError here.

TRITON_INTERPRET=1 must be set before triton is imported; then `install()`, once per process. Caught, at the line
of the kernel: accesses outside the tensor view that a pointer was made from, misalignment, races between programs
(plain against plain or atomic), one store of different values to one element, signed overflow. Masked-off lanes
of a load without `other` are NaN or the largest integer. bfloat16, tl.dot with its input precisions, sums of
products, reductions and ties compute as compiled code does. Programs run in an order shuffled by a seed; an autotuned
kernel runs the configuration asked for. Not modelled: what the compiler makes of a kernel, races inside a program.

It replaces internals of triton and therefore knows the versions it fits; on others `install()` raises.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import triton
import triton.language as tl
import triton.runtime.interpreter as interpreter
from triton.runtime.autotuner import Autotuner

from . import strict_numbers as numbers
from . import strict_reduce, strict_types
from .strict_memory import Launch, StrictError, named_tensors

__all__ = ["StrictError", "install", "options"]


@dataclass(frozen=True)
class Options:
    seed: int | None  # of the program order; None: ascending
    configuration: int  # index, modulo their number, into the configurations of an autotuned kernel
    contract: bool  # a·b + c rounds once, as compilers may choose; False: twice


def _from_environment() -> Options:
    seed = os.environ.get("TRITON_STRICT_SEED", "0")
    return Options(
        int(seed) if seed else None,
        int(os.environ.get("TRITON_STRICT_CONFIGURATION", "0")),
        os.environ.get("TRITON_STRICT_CONTRACT", "1") == "1",
    )


current = _from_environment()
_launches: list[Launch] = []
_original: dict[str, Callable[..., Any]] = {}


@contextmanager
def options(**changes: Any) -> Iterator[None]:
    """Another `seed`, `configuration` or `contract` inside the block."""
    global current
    before = current
    current = replace(current, **changes)
    try:
        yield
    finally:
        current = before


def install() -> None:
    """Make the interpreter strict; a second call does nothing.

    Raises RuntimeError: triton was imported without TRITON_INTERPRET=1, or is not as this tool knows it.
    """
    if _original:
        return
    if not isinstance(tl.sum, interpreter.InterpretedFunction):
        raise RuntimeError("strict interpreter: TRITON_INTERPRET=1 was not set when triton was imported")
    _check_triton()
    for name, function in _replacements().items():
        owner, attribute = _owner(name)
        _original[name] = getattr(owner, attribute)
        setattr(owner, attribute, function)
    semantic = interpreter.interpreter_semantic
    _original["TritonSemantic.load"] = semantic.load
    semantic.load = semantic_load
    semantic.broadcast_impl_value = strict_types.broadcast
    semantic.binary_op_type_checking_impl = strict_types.check_operands
    semantic.binary_op_sanitize_overflow_impl = numbers.check_overflow
    interpreter.interpreter_builder.codegen_fns["min_dot_size"] = _min_dot_size


def _owner(name: str) -> tuple[Any, str]:
    if "." not in name:
        return interpreter, name
    owner, attribute = name.split(".")
    elsewhere = {"Autotuner": Autotuner, "block_type": tl.block_type, "tensor": tl.tensor}
    return elsewhere.get(owner) or getattr(interpreter, owner), attribute


# what is replaced or relied on, and its parameters
KNOWN = {
    "InterpreterBuilder.binary_op": "self lhs rhs op",
    "InterpreterBuilder.unary_op": "self arg op",
    "InterpreterBuilder.create_clampf": "self arg lo hi propagate_nans",
    "InterpreterBuilder.create_fma": "self x y z",
    "InterpreterBuilder.create_rsqrt": "self arg",
    "InterpreterBuilder.create_erf": "self arg",
    "InterpreterBuilder.cast_impl": "self src dst_type",
    "InterpreterBuilder.create_fp_to_fp": "self src dst_type rounding_mode",
    "InterpreterBuilder.create_dot": "self a b d input_precision max_num_imprecise_acc",
    "InterpreterBuilder.create_load": "self ptr cache_policy is_volatile",
    "InterpreterBuilder.create_store": "self ptr val cache_policy",
    "InterpreterBuilder.create_masked_load": "self ptrs mask other cache_policy is_volatile",
    "InterpreterBuilder.create_masked_store": "self ptrs value mask cache_policy",
    "InterpreterBuilder.create_atomic_rmw": "self rmwOp ptr val mask sem scope",
    "InterpreterBuilder.create_atomic_cas": "self ptr cmp val sem scope",
    "InterpreterBuilder.set_grid_dim": "self nx ny nz",
    "InterpreterBuilder.set_grid_idx": "self x y z",
    "GridExecutor._init_args_hst": "self args_dev kwargs",
    "GridExecutor.__call__": "self args_dev kwargs",
    "InterpretedFunction.__call__": "self args kwargs",
    "InterpretedFunction.rewrite": "self",
    "ReduceOps.apply_impl": "self input",
    "ReduceScanOpInterface.to_tensor": "self ret dtype",
    "ScanOps.generic_scan": "self input",
    "TritonSemantic.load": "self ptr mask other cache_policy is_volatile",
    "TritonSemantic.binary_op_sanitize_overflow_impl": "self lhs rhs binary_op",
    "TritonSemantic.broadcast_impl_value": "self lhs rhs",
    "TritonSemantic.binary_op_type_checking_impl": (
        "self lhs rhs allow_lhs_ptr allow_rhs_ptr arithmetic_check div_or_mod"
    ),
    "_get_np_dtype": "tt_dtype",
    "_implicit_cvt": "arg",
    "_patch_lang": "fn",
    "Autotuner.run": "self args kwargs",
    "Autotuner.prune_configs": "self kwargs",
    "block_type.__init__": "self element_ty shape",
    "tensor.__init__": "self handle type",
}


def _check_triton() -> None:
    for name, parameters in KNOWN.items():
        owner, attribute = _owner(name)
        function = getattr(owner, attribute, None)
        found = None if function is None else " ".join(inspect.signature(function).parameters)
        if found != parameters:
            raise RuntimeError(
                f"strict interpreter: triton {triton.__version__} has {name}({found}), known is ({parameters});"
                " adapt tests/gpu/strict_interpreter.py"
            )


def _min_dot_size(lhs: Any, rhs: Any) -> tuple[int, int, int]:
    return (1, 1, 32 if lhs.scalar.primitive_bitwidth == 8 else 16)  # as on NVIDIA


def _replacements() -> dict[str, Callable[..., Any]]:
    builder = interpreter.InterpreterBuilder
    wide = ("unary_op", "create_clampf", "create_fma", "create_rsqrt", "create_erf")
    return {
        "InterpreterBuilder.binary_op": numbers.in_fp32(
            numbers.contracted(builder.binary_op, lambda: current.contract)
        ),
        **{f"InterpreterBuilder.{name}": numbers.in_fp32(getattr(builder, name)) for name in wide},
        "InterpreterBuilder.cast_impl": numbers.cast(builder.cast_impl),
        "InterpreterBuilder.create_fp_to_fp": numbers.float_cast(builder.create_fp_to_fp),
        "InterpreterBuilder.create_dot": numbers.dot(builder.create_dot),
        "InterpreterBuilder.create_masked_load": masked_load,
        "InterpreterBuilder.create_masked_store": masked_store,
        "InterpreterBuilder.create_atomic_rmw": atomic_rmw,
        "InterpreterBuilder.create_atomic_cas": atomic_cas,
        "InterpreterBuilder.set_grid_dim": set_grid_dim,
        "InterpreterBuilder.set_grid_idx": set_grid_idx,
        "GridExecutor._init_args_hst": init_arguments,
        "GridExecutor.__call__": launch,
        "InterpretedFunction.__call__": call_device_function,
        "ReduceOps.apply_impl": strict_reduce.reduce,
        "ScanOps.generic_scan": strict_reduce.generic_scan,
        "_get_np_dtype": strict_types.np_dtype,
        "_implicit_cvt": convert_argument,
        "_patch_lang": patch_language,
        "Autotuner.run": run_configuration,
        "block_type.__init__": strict_types.make_type,
        "tensor.__init__": strict_types.make_tensor,
    }


# Launches: each has its own record of memory, and its programs in a shuffled order.


def launch(self: Any, *args: Any, **kwargs: Any) -> None:
    _launches.append(Launch({}))
    try:
        with np.errstate(all="ignore"):
            _original["GridExecutor.__call__"](self, *args, **kwargs)
    except interpreter.InterpreterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise cause from None
    finally:
        _launches.pop()


def init_arguments(self: Any, args: Any, kwargs: Any) -> Any:
    on_host, keywords = _original["GridExecutor._init_args_hst"](self, args, kwargs)
    names, values = [*self.arg_names[: len(on_host)], *keywords], [*on_host, *keywords.values()]
    _launches[-1].names.update(named_tensors(names, values))
    return on_host, keywords


def convert_argument(arg: Any) -> Any:
    if isinstance(arg, float):
        return tl.tensor(interpreter.TensorHandle(np.array([arg], dtype=np.float32), tl.float32), tl.float32)
    if not hasattr(arg, "data_ptr"):
        return _original["_implicit_cvt"](arg)
    kind = tl.str_to_ty(triton.runtime.jit.mangle_type(arg), None)
    address = np.array([_launches[-1].add(arg)], dtype=np.uint64)
    return tl.tensor(interpreter.TensorHandle(address, kind), kind)


def set_grid_dim(self: Any, nx: int, ny: int, nz: int) -> None:
    _original["InterpreterBuilder.set_grid_dim"](self, nx, ny, nz)
    order = [(x, y, z) for x in range(nx) for y in range(ny) for z in range(nz)]
    if current.seed is not None:
        random.Random(current.seed).shuffle(order)
    _launches[-1].order = order


def set_grid_idx(self: Any, x: int, y: int, z: int) -> None:
    now = _launches[-1]
    now.program += 1
    _original["InterpreterBuilder.set_grid_idx"](self, *now.order[now.program])


@functools.cache
def _language() -> Any:
    """triton.language made to run on numpy, for good: doing it again at every call costs more than the kernels."""
    both = types.FunctionType((lambda: None).__code__, {"tl": tl, "core": tl.core})
    return _original["_patch_lang"](both)


def patch_language(fn: Any) -> Any:
    _language()
    return interpreter._LangPatchScope()


def call_device_function(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.rewrite()(*args, **kwargs)


def run_configuration(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Autotuner.run without a driver to time with."""
    self.nargs = dict(zip(self.arg_names, args, strict=False))
    configurations = self.prune_configs(kwargs)
    chosen = configurations[current.configuration % len(configurations)]
    self.best_config = chosen
    everything = {**self.nargs, **kwargs, **chosen.all_kwargs()}
    self.pre_hook(everything, reset_only=True)
    if chosen.pre_hook is not None:
        chosen.pre_hook(everything)
    return self.fn.run(*args, **kwargs, **chosen.all_kwargs())


# Memory

_has_other = False


def semantic_load(ptr: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any) -> Any:
    """TritonSemantic.load, which takes an `other` of one zero for none."""
    global _has_other
    _has_other = other is not None
    try:
        return _original["TritonSemantic.load"](ptr, mask, other, cache_policy, is_volatile)
    finally:
        _has_other = False


def _bytes(pointers: Any) -> int:
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


def _at(kind: str, pointers: Any, mask: np.ndarray) -> Any:
    """The same pointers into real memory, once checked."""
    real = _launches[-1].access(kind, pointers.data, mask, _bytes(pointers))
    return interpreter.TensorHandle(real, pointers.dtype)


def masked_load(self: Any, ptrs: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any) -> Any:
    real = _at("load", ptrs, mask.data)
    if other is None and not _has_other:
        other = numbers.poison(ptrs.data.shape, ptrs.get_element_ty())
    return _original["InterpreterBuilder.create_masked_load"](
        self, real, mask, other, cache_policy, is_volatile
    )


def masked_store(self: Any, ptrs: Any, value: Any, mask: Any, cache_policy: Any) -> None:
    real = _at("store", ptrs, mask.data)
    _original["InterpreterBuilder.create_masked_store"](self, real, value, mask, cache_policy)
    if real.data.size > 1:  # a lane that finds another value than it stored shares its element
        found = interpreter._interpreter.load(real.data, mask.data, value.data, value.data.dtype)
        bits = np.dtype(f"u{value.data.itemsize}")
        if (found.view(bits) != value.data.view(bits)).any():
            raise StrictError("one store writes different values to the same element")


def atomic_rmw(self: Any, op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any) -> Any:
    real = _at("atomic", ptr, mask.data)
    return _original["InterpreterBuilder.create_atomic_rmw"](self, op, real, val, mask, sem, scope)


def atomic_cas(self: Any, ptr: Any, cmp: Any, val: Any, sem: Any, scope: Any) -> Any:
    real = _at("atomic", ptr, np.ones(ptr.data.shape, bool))
    return _original["InterpreterBuilder.create_atomic_cas"](self, real, cmp, val, sem, scope)

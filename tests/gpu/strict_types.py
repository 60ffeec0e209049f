"""Short cuts for what the interpreter spends most of its time on: types, made once instead of once per operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.runtime.interpreter as interpreter
from triton.language import core

_types: dict[tuple[Any, ...], dict[str, Any]] = {}  # attributes of the block type of an element and a shape
_make_type = core.block_type.__init__
_make_tensor = core.tensor.__init__


def make_type(self: Any, element_ty: Any, shape: Any) -> None:
    """block_type.__init__."""
    key = (element_ty.name, *(n.value if isinstance(n, core.constexpr) else n for n in shape))
    attributes = _types.get(key)
    if attributes is None:
        _make_type(self, element_ty, shape)
        attributes = _types[key] = dict(vars(self))
        example = core.tensor.__new__(core.tensor)
        _make_tensor(example, None, self)
        attributes["of_tensor"] = {name: value for name, value in vars(example).items() if name != "handle"}
    vars(self).update(attributes)


def make_tensor(self: Any, handle: Any, type: Any) -> None:
    """tensor.__init__."""
    known = vars(type).get("of_tensor")
    if known is None:
        _make_tensor(self, handle, type)
        return
    vars(self).update(known)
    self.handle, self.type = handle, type


_find_np_dtype = interpreter._get_np_dtype
_np_dtypes: dict[str, np.dtype[Any]] = {}


def np_dtype(kind: Any) -> np.dtype[Any]:
    """interpreter._get_np_dtype."""
    name = kind.scalar.name
    found = _np_dtypes.get(name)
    if found is None:
        found = _np_dtypes[name] = _find_np_dtype(kind)
    return found


_broadcast = interpreter.interpreter_semantic.broadcast_impl_value


def broadcast(lhs: Any, rhs: Any) -> tuple[Any, Any]:
    """TritonSemantic.broadcast_impl_value."""
    left, right = lhs.type.is_block(), rhs.type.is_block()
    if left and right:
        same = lhs.handle.data.shape == rhs.handle.data.shape
        return (lhs, rhs) if same else _broadcast(lhs, rhs)
    if left:
        return lhs, _splat(rhs, lhs)
    return (_splat(lhs, rhs), rhs) if right else (lhs, rhs)


_check_operands = interpreter.interpreter_semantic.binary_op_type_checking_impl


def check_operands(lhs: Any, rhs: Any, *rules: Any, **more: Any) -> tuple[Any, Any]:
    """TritonSemantic.binary_op_type_checking_impl: two tensors of one type, unless divided, need no conversion."""
    plain = not more and len(rules) < 4 and type(lhs) is core.tensor and type(rhs) is core.tensor
    if plain and lhs.dtype.name == rhs.dtype.name and not lhs.dtype.is_ptr():
        return broadcast(lhs, rhs)
    return _check_operands(lhs, rhs, *rules, **more)


def _splat(scalar: Any, like: Any) -> Any:
    element = scalar.type.scalar
    data = np.empty(like.handle.data.shape, scalar.handle.data.dtype)
    data[...] = scalar.handle.data
    return core.tensor(interpreter.TensorHandle(data, element), like.type.with_element_ty(element))

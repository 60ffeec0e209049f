"""Every check of an option, once, before any backend sees it; a number or flag comes back as Python's own.

What numpy and others call a scalar is a number here too, by its behaviour: numpy need not be installed. A bool is no
number, and a number is no flag. `ValueError` for a wrong value, `TypeError` for a wrong type: the argument, what was
expected, what came. Plain numbers pass by comparisons that torch.compile can trace.
"""

import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """A word out of a few."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def check_number(name: str, value: object, *, minimum: float = 0.0, where: str = "") -> float:
    """A finite number, not below `minimum`; `where` says when that is the bound."""
    number = _number(name, value)
    if not minimum <= number < float("inf"):
        raise ValueError(f"{name}: expected a finite number >= {minimum:g}{where}, got {number!r}")
    return number


def check_positive(name: str, value: object, *, below: float = float("inf")) -> float:
    """A finite number above 0 and below `below`."""
    number = _number(name, value)
    if not 0 < number < below:
        bound = "" if below == float("inf") else f" and < {below:g}"
        raise ValueError(f"{name}: expected a finite number > 0{bound}, got {number!r}")
    return number


def check_temperature(value: object) -> float | Tensor:
    """A number above 0, or a floating-point tensor of one, which stays one and whose value is read on the CPU only."""
    if not isinstance(value, Tensor):
        return check_positive("temperature", value)
    if value.numel() != 1 or not value.is_floating_point():
        raise ValueError(
            f"temperature: expected a number or a floating-point tensor of one, got {value.dtype} {list(value.shape)}"
        )
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        check_positive("temperature", value.item())
    return value


def check_integer(name: str, value: object) -> int:
    """An integer of any sign."""
    if type(value) is int:
        return value
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    return plain


def check_count(name: str, value: object) -> int:
    """A positive integer."""
    number = check_integer(name, value)
    if number < 1:
        raise ValueError(f"{name}: expected an integer >= 1, got {number}")
    return number


def check_flag(name: str, value: object) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return plain


def _number(name: str, value: object) -> float:
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(f"{name}: expected a number, got a tensor that requires grad, which would get none")
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    return plain


def _plain(value: Any) -> object:
    """The Python number or flag that a scalar stands for; whatever is none, as it came."""
    if isinstance(value, bool):
        return value
    if hasattr(value, "shape"):  # arrays and tensors, and numpy's scalars
        readable = value.shape == () and hasattr(value, "item") and not getattr(value, "is_meta", False)
        return value.item() if readable else value
    if hasattr(type(value), "__index__"):
        return operator.index(value)
    return float(value) if isinstance(value, Real) else value

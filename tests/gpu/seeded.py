"""Seed a fault into a real function, kernel or not, by changing a line of its source for as long as a block lasts."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _replaced(source: str, old: str, new: str, where: Any) -> str:
    assert source.count(old) == 1, f"{where} has {source.count(old)} times: {old}"
    return source.replace(old, new)


@contextmanager
def seeded(function: Any, old: str, new: str) -> Iterator[None]:
    """Inside the block `function` has `new` where its source has `old`, exactly once.

    Callers keep their references: a kernel's interpreted form is exchanged, or a Python function's code.
    """
    if hasattr(function, "rewriter"):
        yield from _seeded_kernel(function, old, new)
    else:
        yield from _seeded_python(function, old, new)


def _seeded_kernel(kernel: Any, old: str, new: str) -> Iterator[None]:
    clean = kernel.rewrite()
    prepare = kernel.rewriter._prepare_source
    kernel.rewriter._prepare_source = lambda lines: _replaced(prepare(lines), old, new, kernel.fn.__name__)
    try:
        kernel.rewritten_fn[kernel.fn] = kernel.rewriter.rewrite_ast()
        yield
    finally:
        del kernel.rewriter._prepare_source
        kernel.rewritten_fn[kernel.fn] = clean


def _seeded_python(function: Any, old: str, new: str) -> Iterator[None]:
    source = _replaced(textwrap.dedent(inspect.getsource(function)), old, new, function.__name__)
    found: dict[str, Any] = {}
    exec(compile(source, function.__code__.co_filename, "exec"), function.__globals__, found)
    clean = function.__code__
    function.__code__ = found[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = clean

"""A hash of what a kernel is made of: its code, all device functions and constants it reaches, the compiler options.

Comments, docstrings and places do not count, so that moving code or explaining it leaves the recorded counts valid.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import tokenize
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

IGNORED = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)


def normalised(source: str) -> str:
    """The tokens of a function, one a line; no comments, no docstring, no absolute indentation."""
    kept: list[str] = []
    before, skipped = tokenize.INDENT, False
    for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc("\n" + source)).readline):
        if token.type in IGNORED or (skipped and token.type == tokenize.NEWLINE):
            continue
        starts_statement = before in (tokenize.INDENT, tokenize.NEWLINE, tokenize.DEDENT)
        skipped = starts_statement and token.type == tokenize.STRING
        if not skipped:
            kept.append(f"{tokenize.tok_name[token.type]} {token.string.strip()}")
            before = token.type
    return "\n".join(kept)


@cache
def text_of(function: FunctionType) -> str:
    return normalised(inspect.getsource(function))


def names_in(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*(names_in(c) for c in inner)) if inner else set(code.co_names)


def python_function(value: Any) -> FunctionType | None:
    """The Python behind a @triton.jit function of this project, compiled or interpreted."""
    function = getattr(value, "fn", value)
    is_own = isinstance(function, FunctionType) and not function.__module__.startswith("triton")
    return function if is_own and isinstance(function, FunctionType) else None


def collect(value: Any, found: dict[str, str]) -> None:
    """Adds everything reachable from a function, or from a tuple or dataclass of functions, to {name: text}."""
    if isinstance(value, tuple) or dataclasses.is_dataclass(value):
        members = (
            value if isinstance(value, tuple) else [getattr(value, f.name) for f in dataclasses.fields(value)]
        )
        for member in members:
            collect(member, found)
        return
    function = python_function(value)
    if function is None:
        return
    name = f"{function.__module__}.{function.__qualname__}"
    if name in found:
        return
    found[name] = text_of(function)
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    names = names_in(function.__code__)
    for each in sorted(names & scope.keys()):
        _collect_name(f"{name}: {each}", scope[each], names, found)


def _collect_name(name: str, value: Any, names: set[str], found: dict[str, str]) -> None:
    if isinstance(value, ModuleType):
        if not value.__name__.startswith("triton"):
            for attribute in sorted(names & vars(value).keys()):
                collect(vars(value)[attribute], found)
    elif python_function(value) or isinstance(value, tuple):
        collect(value, found)
    elif type(value).__name__ == "constexpr" or isinstance(value, (int, float, str)):
        found[name] = repr(value)


def source_hash(kernel: Any, constexprs: dict[str, Any]) -> str:
    from fused_rank.triton.launch import compiler_options

    found: dict[str, str] = {}
    collect(kernel, found)
    collect(compiler_options, found)
    for value in constexprs.values():
        collect(value, found)
    text = "\n".join(f"{name}\n{found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Docstrings and the source they belong to: real pairs on any machine with torch, numpy and scikit-learn."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from tqdm import tqdm

PACKAGES = ("torch", "numpy", "sklearn")
_TESTS = re.compile(r"(^|/)(tests?|testing|idlelib|lib2to3|site-packages)(/|$)")
_SHORTEST = 16  # characters of a docstring that says something
_LONGEST = 600  # characters of either text that are read


@dataclass(frozen=True, slots=True)
class Pair:
    """One documented function or class."""

    module: str  # the file it stands in
    docstring: str  # its first paragraph
    source: str  # without the docstring


def collect() -> list[Pair]:
    """Every documented function and class of the standard library and of `PACKAGES`, no text twice."""
    files = [(root, path) for root in _roots() for path in sorted(root.rglob("*.py"))]
    pairs: list[Pair] = []
    seen: set[str] = set()
    for root, path in tqdm(files, desc="reading sources", unit=" files"):
        name = path.relative_to(root.parent).as_posix()
        if _TESTS.search(path.relative_to(root).as_posix()):
            continue
        for pair in _documented(path, name):
            if pair.docstring not in seen and pair.source not in seen:
                seen.update((pair.docstring, pair.source))
                pairs.append(pair)
    return pairs


def _roots() -> Iterator[Path]:
    yield Path(sysconfig.get_path("stdlib"))
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent


def _documented(path: Path, module: str) -> Iterator[Pair]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    lines = text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None or len(node.body) < 2:
            continue
        summary = " ".join(docstring.split("\n\n")[0].split())[:_LONGEST]
        first = node.body[0]
        body = [*lines[node.lineno - 1 : first.lineno - 1], *lines[first.end_lineno or 0 : node.end_lineno]]
        source = "\n".join(line.strip() for line in body)[:_LONGEST]
        if len(summary) >= _SHORTEST:
            yield Pair(module, summary, source)


def split_by_module(pairs: list[Pair], held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices for training and for the test: whole modules, about that share of the pairs."""
    modules = sorted({pair.module for pair in pairs})
    generator = torch.Generator().manual_seed(seed)
    shuffled = [modules[k] for k in torch.randperm(len(modules), generator=generator).tolist()]
    of_module: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        of_module.setdefault(pair.module, []).append(index)
    test: list[int] = []
    for module in shuffled:
        if len(test) >= held_out * len(pairs):
            break
        test.extend(of_module[module])
    held = set(test)
    return [k for k in range(len(pairs)) if k not in held], sorted(test)

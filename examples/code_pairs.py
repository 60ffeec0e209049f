"""Docstrings and the source they belong to: real pairs on any machine with torch, numpy and scikit-learn."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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


def collect(pool: ProcessPoolExecutor) -> list[Pair]:
    """Every documented function and class of the standard library and of `PACKAGES`, no text twice."""
    files = [(root, path) for root in _roots() for path in sorted(root.rglob("*.py"))]
    files = [(root, path) for root, path in files if not _TESTS.search(path.relative_to(root).as_posix())]
    names = [path.relative_to(root.parent).as_posix() for root, path in files]
    found = pool.map(_documented, [path for _, path in files], names, chunksize=32)
    pairs: list[Pair] = []
    seen: set[str] = set()
    for in_file in tqdm(found, desc="reading sources", total=len(files), unit=" files"):
        for pair in in_file:
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


def _documented(path: Path, module: str) -> list[Pair]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return []
    lines = text.splitlines()
    pairs = []
    for node in _definitions(tree):
        docstring = ast.get_docstring(node)
        if docstring is None or len(node.body) < 2:
            continue
        summary = " ".join(docstring.split("\n\n")[0].split())[:_LONGEST]
        first = node.body[0]
        body = [*lines[node.lineno - 1 : first.lineno - 1], *lines[first.end_lineno or 0 : node.end_lineno]]
        source = "\n".join(line.strip() for line in body)[:_LONGEST]
        if len(summary) >= _SHORTEST:
            pairs.append(Pair(module, summary, source))
    return pairs


def _definitions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions and classes, at any depth of statements; expressions, most of a tree, hold none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(child)


def split_by_module(pairs: list[Pair], shares: tuple[float, ...], seed: int) -> list[list[int]]:
    """Indices of parts of about these shares of the pairs, and of the rest; whole modules in each."""
    modules = sorted({pair.module for pair in pairs})
    generator = torch.Generator().manual_seed(seed)
    shuffled = [modules[k] for k in torch.randperm(len(modules), generator=generator).tolist()]
    of_module: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        of_module.setdefault(pair.module, []).append(index)
    parts: list[list[int]] = [[]]
    for module in shuffled:
        if len(parts) <= len(shares) and len(parts[-1]) >= shares[len(parts) - 1] * len(pairs):
            parts.append([])
        parts[-1].extend(of_module[module])
    return [sorted(part) for part in parts]

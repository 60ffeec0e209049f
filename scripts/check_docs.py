"""Runs every Python example in the documentation and in public docstrings, follows every local link, and compares the
defaults that the losses' pages tell with those in the code.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

import fused_rank

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_MODULES = (
    "fused_rank",
    "fused_rank.batches",
    "fused_rank.diagnostics",
    "fused_rank.functional",
    "fused_rank.mining",
    "fused_rank.retrieval",
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
OPTION = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| (.+?) \|", re.M)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("csrc/*.md"))]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors that the page's headings get, as GitHub forms them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for match in LINK.finditer(without_code(page.read_text(encoding="utf-8"))):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        other = (page.parent / target).resolve() if target else page
        if not other.exists():
            yield f"{page.relative_to(ROOT)}: no such file: {target}"
        elif anchor and anchor not in anchors(other):
            yield f"{page.relative_to(ROOT)}: no such heading: {target}#{anchor}"


def wrong_defaults(page: Path) -> Iterator[str]:
    """The page of a loss lists every option of the module, with its default."""
    text = page.read_text(encoding="utf-8")
    loss = re.search(r"^`fused_rank\.(\w+Loss)`", text, re.M)
    if loss is None:
        return
    table = text.partition("| option | default |")[2].partition("\n\n")[0]
    told: dict[str, str] = {}
    for names, values in OPTION.findall(table):
        told.update(zip(re.findall(r"\w+", names), re.sub(r'[`"]', "", values).split(", "), strict=False))
    for name, parameter in inspect.signature(getattr(fused_rank, loss[1])).parameters.items():
        default = parameter.default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        if told.get(name) != shown:
            yield f"{page.relative_to(ROOT)}: {name} has the default {shown}, the table says {told.get(name)}"


def failing_examples(page: Path) -> Iterator[str]:
    """Runs the page's Python blocks one after another, as a reader would type them."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    torch.manual_seed(0)
    for match in FENCE.finditer(text):
        if match[1] != "python":
            continue
        line = text.count("\n", 0, match.start()) + 1
        try:
            exec(compile("\n" * line + match[2], str(page), "exec"), names)
        except Exception:
            yield f"{page.relative_to(ROOT)}:{line}: {traceback.format_exc(limit=-1)}"
            return


def failing_doctests() -> Iterator[str]:
    for found in pkgutil.walk_packages(fused_rank.__path__, "fused_rank."):
        if (
            found.name.endswith("__main__")
            or "._C_" in found.name
            or found.name.startswith("fused_rank.triton")
        ):
            continue
        torch.manual_seed(0)
        failures, tried = doctest.testmod(importlib.import_module(found.name), optionflags=doctest.ELLIPSIS)
        if failures:
            yield f"{found.name}: {failures} of {tried} doctests fail"


def undocumented_names() -> Iterator[str]:
    docs = "".join(page.read_text(encoding="utf-8") for page in pages())
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if name.startswith("_") or isinstance(value, str) or type(value) is type(sys):
                continue
            if not re.search(rf"\b{name}\b", docs):
                yield f"{module.__name__}.{name} is on no page"
            result_type = isinstance(value, type) and issubclass(value, (tuple, Warning))
            if not value.__doc__ or (">>>" not in value.__doc__ and not result_type):
                yield f"{module.__name__}.{name} has no docstring with an example"


def main() -> int:
    found = list(undocumented_names())
    for page in pages():
        began = time.perf_counter()
        found += [*broken_links(page), *wrong_defaults(page), *failing_examples(page)]
        print(f"{page.relative_to(ROOT)}: {time.perf_counter() - began:.1f} s", flush=True)
    found += failing_doctests()
    print("\n".join(found) or "documentation: examples run, links lead somewhere, defaults are true")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

"""Which compilations a record needs: each shape of tile for all targets, and each kernel in each of its other variants
(term, metric, form) for two.

Terms, metrics and forms of one shape differ little from GPU to GPU; shapes decide what fits. One of the two has the
instructions that later GPUs build on, the other is the one whose assembler spilled where no other did. `complete` has
the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .pool import Job
from .targets import TARGETS

FIRST = ("sm_90", "sm_120")
SHAPE = re.compile(
    r"\b(?:BM|BN|BK|DS|PRECISION|LOCAL|KIND|LIVE|[A-Z]*(?:BLOCK|ROWS|COLUMNS|PAIRS|DEPTH))=\w+"
)


def shape(identity: str) -> str:
    """Kernel, tile, element type, warps and stages: an identity without its term, metric, form and digest."""
    name, _, rest = identity.partition("[")
    values, _, options = rest.rpartition("] ")
    return f"{name} {' '.join(SHAPE.findall(values))} {options.rsplit(' ', 1)[0]}"


def variant(identity: str) -> tuple[str, str]:
    """Kernel and whatever of its constants is no shape."""
    name, _, rest = identity.partition("[")
    values, _, _ = rest.rpartition("] ")
    return name, SHAPE.sub("", values).replace(",", " ")


def complete(listing: Mapping[str, tuple[str, str]]) -> list[Job]:
    """Every kernel for every target, those that `cover` needs first."""
    first = cover(listing)
    needed = set(first)
    every = [Job(name, target, source) for target in TARGETS for name, (source, _) in listing.items()]
    return first + [job for job in every if job not in needed]


def cover(listing: Mapping[str, tuple[str, str]]) -> list[Job]:
    by_shape: dict[str, str] = {}
    by_variant: dict[tuple[str, str], str] = {}
    for name in listing:
        by_shape.setdefault(shape(name), name)
        by_variant.setdefault(variant(name), name)
    one_each = [
        Job(name, target, listing[name][0]) for target in (*FIRST, *TARGETS) for name in by_shape.values()
    ]
    rest = [Job(name, target, listing[name][0]) for target in FIRST for name in by_variant.values()]
    return list(dict.fromkeys(one_each + rest))

"""Which compilations a record needs: everything for the first target, and each shape of tile for all of them.

Terms, metrics and forms of one shape differ little from GPU to GPU; shapes decide what fits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .pool import Job
from .targets import TARGETS

FIRST = "sm_90"
SHAPE = re.compile(r"(?:BM|BN|BK|DS|PRECISION|KIND|LIVE|[A-Z]*(?:BLOCK|ROWS|COLUMNS|PAIRS|DEPTH))=\w+")


def shape(identity: str) -> str:
    """Kernel, tile, element type, warps and stages: an identity without its term, metric, form and digest."""
    name, _, rest = identity.partition("[")
    values, _, options = rest.rpartition("] ")
    return f"{name} {' '.join(SHAPE.findall(values))} {options.rsplit(' ', 1)[0]}"


def complete(listing: Mapping[str, tuple[str, str]]) -> list[Job]:
    """Every kernel for every target, those that `cover` needs first."""
    first = cover(listing)
    needed = set(first)
    every = [Job(name, target, source) for target in TARGETS for name, (source, _) in listing.items()]
    return first + [job for job in every if job not in needed]


def cover(listing: Mapping[str, tuple[str, str]]) -> list[Job]:
    by_shape: dict[str, str] = {}
    for name in listing:
        by_shape.setdefault(shape(name), name)
    one_each = [
        Job(name, target, listing[name][0]) for target in (FIRST, *TARGETS) for name in by_shape.values()
    ]
    rest = [Job(name, FIRST, source) for name, (source, _) in listing.items()]
    return list(dict.fromkeys(one_each + rest))

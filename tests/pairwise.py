"""Pairwise combinations: every pair of values occurs in some of them, far fewer than the full product."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

Combo = dict[str, Any]


def pairwise(
    factors: dict[str, Sequence[Any]], valid: Callable[[Combo], bool] = lambda _: True
) -> list[Combo]:
    """A greedy cover of the pairs of values that some valid combination has; the same list on every run."""
    chance = random.Random(0)
    names = list(factors)
    everything = [
        c for values in product(*factors.values()) if valid(c := dict(zip(names, values, strict=True)))
    ]
    missing = {pair for combo in everything for pair in pairs_of(combo)}
    chance.shuffle(everything)
    cover: list[Combo] = []
    while missing:
        sample = chance.sample(everything, min(200, len(everything)))
        best = max(sample, key=lambda combo: len(missing & pairs_of(combo)))
        gained = missing & pairs_of(best)
        if not gained:
            best = next(combo for combo in everything if missing & pairs_of(combo))
            gained = missing & pairs_of(best)
        missing -= gained
        cover.append(best)
    return cover


def pairs_of(combo: Combo) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return set(combinations([(name, str(value)) for name, value in combo.items()], 2))

"""Interleaved timing: every implementation takes its turn in every round, so that drift hits all alike."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

Step = Callable[[], None]
Samples = list[float | None]  # one entry a round; None where the implementation sat the round out

MIN_SAMPLE = 0.004  # seconds: faster steps are repeated within a sample
MOST_SAMPLES = 40
SLOW_STEP = 1.0  # seconds: slower steps need no warm-up, and two samples do


@dataclass(frozen=True)
class Quantiles:
    p20: float
    p50: float
    p80: float


def quantiles(samples: Sequence[float | None]) -> Quantiles:
    values = [value for value in samples if value is not None]
    if not values:
        raise ValueError("quantiles: expected at least one sample, got none")
    p20, p50, p80 = np.quantile(values, (0.2, 0.5, 0.8))
    return Quantiles(float(p20), float(p50), float(p80))


def paired_ratio(numerator: Samples, denominator: Samples) -> float:
    """Median over rounds of numerator / denominator, both timed in the same round."""
    ratios = [n / d for n, d in zip(numerator, denominator, strict=True) if n is not None and d is not None]
    return float(np.median(ratios))


def turns(count: int, rounds: int) -> list[bool]:
    """The rounds out of `rounds` to run in, `count` of them, evenly spread from the first on."""
    return [(-r * count // rounds) != (-(r + 1) * count // rounds) for r in range(rounds)]


def repeats(cost: float, budget: float, least: int, most: int) -> int:
    """Samples that fit in `budget` seconds, at least `least`; fewer of slow steps, but always one."""
    if cost > 3 * SLOW_STEP:
        least = 1
    elif cost > SLOW_STEP:
        least = min(least, 2)
    return max(least, min(most, int(budget / max(cost, 1e-6))))


def timed(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def warm_up(step: Step) -> float:
    """Seconds of one step, warm unless it is slow."""
    cost = timed(step)
    return cost if cost > SLOW_STEP else timed(step)


def interleave(
    steps: Mapping[str, Step],
    budget: float,
    known: Mapping[str, float] = MappingProxyType({}),
    least: int = 5,
) -> dict[str, Samples]:
    """Seconds per call of each step in each round, in about `budget` seconds besides the warm-up.

    `known` costs of slow steps spare them the warm-up.
    """
    costs = {name: _cost(step, known.get(name, 0.0)) for name, step in steps.items()}
    inner = {name: max(1, int(MIN_SAMPLE / max(cost, 1e-7))) for name, cost in costs.items()}
    share = budget / len(steps)
    counts = {name: repeats(costs[name] * inner[name], share, least, MOST_SAMPLES) for name in steps}
    rounds = max(counts.values())
    schedule = {name: turns(count, rounds) for name, count in counts.items()}
    samples: dict[str, Samples] = {name: [] for name in steps}
    gc.collect()
    gc.disable()
    try:
        for index in range(rounds):
            for name, step in steps.items():
                samples[name].append(_sample(step, inner[name]) if schedule[name][index] else None)
    finally:
        gc.enable()
    return samples


def _cost(step: Step, known: float) -> float:
    return known if known > SLOW_STEP else warm_up(step)


def _sample(step: Step, inner: int) -> float:
    start = time.perf_counter()
    for _ in range(inner):
        step()
    return (time.perf_counter() - start) / inner

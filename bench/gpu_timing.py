"""Timing on a GPU: events in the stream, a cold L2 before every sample, contenders interleaved.

The clock is handed in, so that the schedule can be tested where there is no GPU.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from .timing import Samples, Step, repeats, turns

WARM_UPS = 2  # compiling, tuning, the allocator's first blocks
LEAST, MOST = 5, 50


class Instrument(Protocol):
    """What a measurement needs of a device."""

    def flush(self) -> None:
        """Leave nothing of earlier work in the caches."""

    def mark(self) -> Any:
        """A point in the device's order of work."""

    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between two marks, once both are past."""

    def forget_peak(self) -> None:
        """Start watching the memory."""

    def peak_bytes(self) -> int:
        """The most memory in use since `forget_peak`, above what was in use then."""


class CudaInstrument:
    """Events and allocator statistics of one CUDA (or ROCm) device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        self.evictor = torch.empty(max(4 * cache, 64 * 2**20), dtype=torch.int8, device=device)
        self.before = 0

    def flush(self) -> None:
        self.evictor.zero_()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def forget_peak(self) -> None:
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.before = torch.cuda.memory_allocated(self.device)

    def peak_bytes(self) -> int:
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - self.before


def sample(step: Step, instrument: Instrument) -> float:
    """Seconds of one step on a cold cache."""
    instrument.flush()
    start = instrument.mark()
    step()
    return instrument.seconds(start, instrument.mark())


def warm(step: Step, instrument: Instrument, forget: Step = lambda: None) -> tuple[float, int]:
    """Seconds and peak bytes of one step, after those that compile and tune; `forget` drops what they left."""
    for _ in range(WARM_UPS):
        step()
    forget()
    instrument.forget_peak()
    cost = sample(step, instrument)
    return cost, instrument.peak_bytes()


def interleave(
    steps: Mapping[str, Step], costs: Mapping[str, float], instrument: Instrument, budget: float
) -> dict[str, Samples]:
    """Seconds of each warm step in each round it takes part in, `budget` seconds in all; slow ones take fewer turns."""
    share = budget / len(steps)
    counts = {name: repeats(costs[name], share, LEAST, MOST) for name in steps}
    rounds = max(counts.values())
    schedule = {name: turns(count, rounds) for name, count in counts.items()}
    samples: dict[str, Samples] = {name: [] for name in steps}
    for index in range(rounds):
        for name, step in steps.items():
            samples[name].append(sample(step, instrument) if schedule[name][index] else None)
    return samples

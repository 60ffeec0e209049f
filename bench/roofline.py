"""Floors on paper: the least time a GPU's peak numbers allow each sweep, and which of them binds.

Nothing here is measured. A sweep's tile products, the instructions of its epilogue (everything between two
products), L2 and HBM traffic are each divided by the matching peak; a fused kernel may overlap all four, so the
largest is its floor. Eager kernels run one after another, so theirs is the sum.

    python -m bench.roofline --gpu H100 --rows 16384 --width 512 --dtype bf16
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Dtype = Literal["fp32", "bf16", "fp16"]
Pipe = Literal["fma", "tf32", "half"]

LANES = 128  # lane instructions an SM issues per clock: four schedulers of one warp
SPECIAL_LANES = 16  # of exp2, rsqrt and the like


@dataclass(frozen=True)
class Gpu:
    """Peak numbers: FLOP/s without sparsity, bytes/s, Hz."""

    name: str
    sms: int
    clock: float
    fma: float
    tf32: float
    half: float  # bf16 and fp16
    hbm: float
    l2: float

    @property
    def issue(self) -> float:
        return self.sms * LANES * self.clock

    @property
    def special(self) -> float:
        return self.sms * SPECIAL_LANES * self.clock


# NVIDIA's data sheets and architecture white papers. The H100's clock is the one its tensor peaks are stated for
# (fp32: 1.98 GHz). L2: 5120 bytes per clock as the A100's white paper says, taken for the H100 too, for which
# NVIDIA states none: an estimate on the high side, so that the floor stays a floor.
GPUS = {
    "H100": Gpu("H100 SXM", 132, 1.83e9, 66.9e12, 494.7e12, 989.4e12, 3.35e12, 9.37e12),
    "A100": Gpu("A100 SXM 80GB", 108, 1.41e9, 19.5e12, 156e12, 312e12, 2.039e12, 7.2e12),
}


@dataclass(frozen=True)
class Batch:
    """B rows of D numbers in self form, each with P positives."""

    rows: int
    width: int
    dtype: Dtype
    positives: int = 3

    @property
    def pairs(self) -> int:
        return self.rows**2

    @property
    def product(self) -> int:
        """FLOP of u, one B×B×D product."""
        return 2 * self.pairs * self.width

    @property
    def bytes(self) -> int:
        return self.rows * self.width * (4 if self.dtype == "fp32" else 2)


@dataclass(frozen=True)
class Cost:
    """Instructions per pair, and how many of them go to the special-function unit."""

    instructions: float
    special: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.instructions + other.instructions, self.special + other.special)

    def __mul__(self, times: float) -> "Cost":
        return Cost(self.instructions * times, self.special * times)


@dataclass(frozen=True)
class Sweep:
    """The work of one walk over the pairs."""

    name: str
    flop: Mapping[Pipe, float]  # as executed: tf32x3 counts three times
    epilogue: Cost  # of all pairs together
    l2_bytes: float
    hbm_bytes: float
    overlaps: bool = True


@dataclass(frozen=True)
class Floor:
    """Seconds of each part; `seconds` is the floor and `bound` the largest part."""

    product: float
    epilogue: float
    l2: float
    hbm: float
    seconds: float

    @property
    def bound(self) -> str:
        parts = {"product": self.product, "epilogue": self.epilogue, "L2": self.l2, "HBM": self.hbm}
        return max(parts, key=lambda name: parts[name])


def floor(sweep: Sweep, gpu: Gpu) -> Floor:
    """The least seconds of the sweep on the GPU."""
    peaks: dict[Pipe, float] = {"fma": gpu.fma, "tf32": gpu.tf32, "half": gpu.half}
    product = sum(flop / peaks[pipe] for pipe, flop in sweep.flop.items())
    epilogue = max(sweep.epilogue.instructions / gpu.issue, sweep.epilogue.special / gpu.special)
    l2, hbm = sweep.l2_bytes / gpu.l2, sweep.hbm_bytes / gpu.hbm
    if not sweep.overlaps:
        return Floor(product, epilogue, l2, hbm, product + epilogue + l2 + hbm)
    computing = product + epilogue if "fma" in sweep.flop else max(product, epilogue)  # FMAs are issued too
    return Floor(product, epilogue, l2, hbm, max(computing, l2, hbm))


if __name__ == "__main__":
    from .roofline_table import main

    main()

"""The GPUs that kernels are compiled for, and what each allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    name: str
    backend: str  # "cuda" or "hip"
    arch: int | str
    lanes: int  # of a warp
    shared_limit: int  # bytes a block may have

    @property
    def is_nvidia(self) -> bool:
        return self.backend == "cuda"


KIB = 1024
TARGETS = {
    target.name: target
    for target in (
        Target("sm_80", "cuda", 80, 32, 163 * KIB),
        Target("sm_90", "cuda", 90, 32, 227 * KIB),
        Target("sm_100", "cuda", 100, 32, 227 * KIB),
        Target("sm_120", "cuda", 120, 32, 99 * KIB),
        Target("gfx942", "hip", "gfx942", 64, 64 * KIB),
    )
}

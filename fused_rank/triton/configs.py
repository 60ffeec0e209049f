"""The one table of tile shapes, and what each dtype's products are made of.

An entry ships only if ahead-of-time compilation shows no spills, shared memory within the limit and tensor-core
instructions on every architecture that it is meant for.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from .launch import Specialisation, recording

# rows and columns of an entry of the live map; statistics tiles are multiples of it, gradient tiles divide it
LIVE_TILE = 64
STRIP_TILE = 64  # rows and columns of a strip's tile; tiles of its gradient nest inside
NEAR_FEATURES = 32  # a step of gradients of close pairs in strips
SUM_BLOCK = 128  # rows per program of the kernels that finish rows
FP32_PRECISION = "FUSED_RANK_FP32_PRECISION"  # environment variable
_PRECISIONS = ("tf32x3", "ieee", "tf32")
ALL_REGISTERS = 255  # that a thread can have
_PROGRAMS = 264  # enough to fill the largest machines twice


@dataclass(frozen=True, slots=True)
class Tiles:
    """Shape of a kernel's tile: rows × columns of pairs, `depth` features a step of the product."""

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int
    features: int = 0  # of a gradient kept on chip
    # Left to itself, the assembler may spill a few registers to fit more programs; told that it may take all, it spills
    # elsewhere. Which of the two compiles clean is known from compiling only.
    maxnreg: int | None = ALL_REGISTERS

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of `launch`."""
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, "maxnreg": self.maxnreg}


# (kernel, dtype or else bytes of an element) -> [(widest rows it is for, tiles)]
_TABLE: dict[tuple[str, int | torch.dtype], list[tuple[float, Tiles]]] = {
    # Four warps have sixteen rows each; more would compute on tensor cores what others have (Triton shares chained
    # products out by rows alone). Terms with a logarithm a pair, and the FMA pipe, need the registers of eight.
    ("statistics", 4): [(float("inf"), Tiles(64, 64, 16, 4, 3))],
    ("statistics in eight warps", 4): [(float("inf"), Tiles(64, 64, 16, 8, 3))],
    ("statistics", 2): [(float("inf"), Tiles(64, 64, 64, 8, 3))],
    ("coefficients", 4): [(float("inf"), Tiles(64, 32, 16, 4, 3))],
    ("coefficients", 2): [(float("inf"), Tiles(64, 64, 64, 8, 3))],
    # by the tile rows of the sweep before, whose tiles these are
    ("near", 4): [
        (32, Tiles(0, 0, 16, 4, 2, features=16)),
        (float("inf"), Tiles(0, 0, 16, 8, 2, features=16)),
    ],
    ("near", 2): [
        (32, Tiles(0, 0, 16, 4, 2, features=16)),
        (float("inf"), Tiles(0, 0, 16, 8, 2, features=16)),
    ],
    ("gradient", 4): [
        (64, Tiles(32, 32, 32, 4, 2, features=64)),
        (float("inf"), Tiles(64, 32, 16, 8, 2, features=128)),
    ],
    ("gradient", torch.float16): [  # widened for the gradient's product
        (64, Tiles(32, 32, 32, 4, 2, features=32)),
        (float("inf"), Tiles(64, 32, 32, 8, 2, features=128)),
    ],
    ("gradient", 2): [
        (64, Tiles(64, 32, 32, 8, 2, features=64)),
        (float("inf"), Tiles(64, 32, 32, 8, 2, features=128)),
    ],
    ("selection", 4): [(float("inf"), Tiles(64, 64, 32, 4, 3, maxnreg=None))],
    ("selection", 2): [(float("inf"), Tiles(64, 64, 64, 4, 3))],
    ("strip", 4): [(float("inf"), Tiles(64, 64, 16, 4, 3, maxnreg=None))],
    ("strip", 2): [(float("inf"), Tiles(64, 64, 64, 4, 3))],
    ("strip_pull", 4): [(float("inf"), Tiles(64, 32, 0, 8, 2, features=64))],
    ("strip_pull", 2): [(float("inf"), Tiles(64, 32, 0, 8, 2, features=64))],
    ("wide_pull", 4): [(float("inf"), Tiles(64, 32, 0, 8, 2, features=128))],  # without close pairs
    ("wide_pull", 2): [(float("inf"), Tiles(64, 32, 0, 8, 2, features=64))],
}


@dataclass(frozen=True, slots=True)
class Blocks:
    """Shape of a kernel without a product: its constexprs by name."""

    shape: dict[str, int]
    num_warps: int
    num_stages: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of `launch`."""
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, "maxnreg": ALL_REGISTERS}


_BLOCKS: dict[str, Blocks] = {
    "rank": Blocks({"ROWS": 2, "POSITIVES": 4, "COLUMNS": 128}, 8),
    "topk": Blocks({"ROWS": 1, "COLUMNS": 1024}, 4),
    "listed": Blocks({"PAIRS": 32, "DEPTH": 64}, 4),
    "edges": Blocks({"ROWS": 1, "EDGES": 16, "DEPTH": 128}, 4),
}
if os.environ.get("TRITON_INTERPRET") == "1":  # pays by the program and by the step, hardly by the element
    _BLOCKS["rank"] = Blocks({"ROWS": 32, "POSITIVES": 8, "COLUMNS": 128}, 4)
    _BLOCKS["topk"] = Blocks({"ROWS": 32, "COLUMNS": 512}, 4)
    _BLOCKS["edges"] = Blocks({"ROWS": 16, "EDGES": 16, "DEPTH": 64}, 4)


def blocks(kernel: str) -> Blocks:
    """The shape that `kernel` runs with."""
    return _BLOCKS[kernel]


def tiles(kernel: str, dtype: torch.dtype, width: int) -> Tiles:
    """The shape that `kernel` runs with on rows [R, width] of `dtype`."""
    entries = _TABLE.get((kernel, dtype)) or _TABLE[kernel, dtype.itemsize]
    return next(shape for widest, shape in entries if width <= widest)


def near_tiles(dtype: torch.dtype, rows: int = LIVE_TILE) -> Tiles:
    """What the kernels for close pairs run with after a sweep with tiles of that many rows."""
    return tiles("near", dtype, rows)


def precision(dtype: torch.dtype, *, exact: bool = False) -> str:
    """`input_precision` of a tile product; `exact` where equal distances must come out equal.

    fp16 is multiplied as it is. Only its gradient's product, of fp32 coefficients, needs one: tf32 holds fp16 exactly.

    FUSED_RANK_FP32_PRECISION chooses for fp32 statistics and gradients: tf32x3 (fp32 accuracy on tensor cores), ieee,
    or tf32, which truncates operands to ten bits.
    """
    if exact or dtype not in (torch.float32, torch.float16):
        return "ieee"
    if dtype == torch.float16:
        return "ieee" if torch.version.hip else "tf32"
    chosen = os.environ.get(FP32_PRECISION, "ieee" if torch.version.hip else "tf32x3")
    if chosen not in _PRECISIONS:
        raise ValueError(f"{FP32_PRECISION}: expected one of {', '.join(_PRECISIONS)}, got {chosen!r}")
    return chosen


def local_precision(*, exact: bool = False) -> str:
    """`input_precision` of products within clusters, whose rows are fp32 whatever they came as."""
    return precision(torch.float32, exact=exact)


def splits(programs: int, tiles: int, most: int) -> int:
    """How many programs share the columns of a row block, so that a small batch fills the machine.

    Depends on the shape alone, never on the device: the same sums in the same order everywhere.
    """
    wanted = max(1, min(-(-_PROGRAMS // max(programs, 1)), tiles, most))
    share = -(-tiles // wanted)
    return -(-tiles // max(share, 1)) or 1  # none without a tile


@lru_cache(maxsize=1)
def shipped() -> list[Specialisation]:
    """Every compilation that the operators ask for, over dtypes, width classes, metrics and forms.

    Needs compiled kernels: not under TRITON_INTERPRET=1, where there is nothing to compile.
    """
    from .shipping import calls

    found: dict[str, Specialisation] = {}
    for label, call in calls():
        with recording() as recorded:
            call()
        for one in recorded:
            found.setdefault(one.key, _labelled(one, label))
    return list(found.values())


def _labelled(one: Specialisation, label: str) -> Specialisation:
    values: dict[str, Any] = {name: getattr(one, name) for name in one.__slots__}
    return Specialisation(**{**values, "label": label})

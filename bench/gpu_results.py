"""What a run on a GPU leaves behind."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .timing import Quantiles


@dataclass
class Result:
    """One contender: seconds, bytes above the inputs, effective FLOP/s; a note where there is no time."""

    implementation: str
    time: Quantiles | None = None
    samples: int = 0
    slower: float | None = None  # times fused_rank's time, median over rounds
    flops: float | None = None
    peak_bytes: int | None = None
    difference: float | None = None  # of the gradient from eager's, relative
    note: str = ""


@dataclass
class Row:
    """One case in one dtype. `served` names the backends whose operators ran for fused_rank."""

    case: str
    rows: int
    width: int
    dtype: str
    products: int
    served: str = ""
    ceiling_flops: float = 0.0  # of torch.mm, B×D by D×B
    results: list[Result] = field(default_factory=list)

    def result(self, name: str) -> Result | None:
        return next((result for result in self.results if result.implementation == name), None)


@dataclass
class GpuRun:
    device: dict[str, Any]
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def save(run: GpuRun, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")

"""Operators run on compiled PTX in the emulator, against the compiled CPU engine in fp64.

A worker (`python -m tests.gpu.ptx_cases`) in a process without the interpreter, JSON requests and answers by the line:
{"case", "target", "dtype", "shape", "profile"} -> {"errors": {output: error}, "counts", "opcodes": by kernel}
and "kernel", "pattern", "to", "most" -> [[place, what caught it or null], ...]: that kernel with its PTX broken
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .aot.targets import TARGETS
from .emulation import Emulator, Launch, emulating
from .ptx import PTXError


class Shape(NamedTuple):
    rows: int
    columns: int  # of the gallery, in two-set form
    width: int


# more than a tile, and not by much; some steps of the product; in ODD, rows that vector loads do not fit
RAGGED = {"float32": Shape(70, 75, 80), "bfloat16": Shape(70, 75, 144), "float16": Shape(70, 75, 144)}
ODD = Shape(70, 75, 41)
RANKED_LIST = [1.2, 0.4, 10.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
STREAMED = [1.2, 0.4, 130.0, 90.0, 1.0, 1.0, 1.0, 0.0, 0.0]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Outputs = dict[str, Tensor]
Case = Callable[[Any, "Inputs"], Outputs]  # operators, inputs -> named results


class Inputs:
    """The same rounded numbers for both sides of a comparison; `exact` widens them to fp64."""

    def __init__(self, shape: Shape, dtype: torch.dtype, exact: bool) -> None:
        generator = torch.Generator().manual_seed(7)
        self.shape, self.exact = shape, exact
        self.x = self._widen(torch.randn(shape.rows, shape.width, generator=generator).to(dtype))
        self.gallery = self._widen(torch.randn(shape.columns, shape.width, generator=generator).to(dtype))
        self.labels, self.gallery_labels = (
            torch.randint(0, 9, (n,), generator=generator) for n in (shape.rows, shape.columns)
        )

    def _widen(self, values: Tensor) -> Tensor:
        return values.double() if self.exact else values

    def sides(self, two_set: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        gallery = (self.gallery, self.gallery_labels) if two_set else (None, None)
        return self.x, self.labels, *gallery

    def upstream(self, *size: int) -> Tensor:
        count = torch.Size(size).numel()
        return self._widen(torch.linspace(0.5, 1.5, count).reshape(size))


def pair(term: str, params: list[float], *, two_set: bool, query_only: bool) -> Case:
    def run(ops: Any, given: Inputs) -> Outputs:
        sides, common = given.sides(two_set), (None, term, params, "euclidean", True)
        rows, *kept = ops.pair_forward(*sides, *common, "query" if query_only else "none", False)
        up = given.upstream(rows.shape[0] // 3, given.shape.rows)
        grad_x, grad_y, _ = ops.pair_backward(
            up, *sides, *common, query_only, False, *kept, True, two_set, False
        )
        return {"rows": rows, "grad x": grad_x, "grad gallery": grad_y}

    return run


def triplet(mining: str, *, two_set: bool, soft: bool = False) -> Case:
    def run(ops: Any, given: Inputs) -> Outputs:
        sides, common = given.sides(two_set), (mining, 0.3, soft, "euclidean", True)
        rows, state, live = ops.triplet_forward(*sides, *common)
        up = given.upstream(1, given.shape.rows)
        grad_x, grad_y = ops.triplet_backward(up, *sides, *common, state, live, rows, True, two_set)
        return {"rows": rows, "grad x": grad_x, "grad gallery": grad_y}

    return run


def mined(operator: str) -> Case:
    def run(ops: Any, given: Inputs) -> Outputs:
        found = getattr(ops, operator)(*given.sides(False), "euclidean", True)
        return {f"index {number}": each for number, each in enumerate(found)}

    return run


def nearest(k: int) -> Case:
    def run(ops: Any, given: Inputs) -> Outputs:
        values, indices = ops.topk(given.x, given.gallery, k, "euclidean", False, False)
        return {"values": values, "index": indices}

    return run


def listed(ops: Any, given: Inputs) -> Outputs:
    count = given.shape.rows
    i, j = torch.arange(count) // 3, torch.arange(count) % 11
    common = (given.x, given.gallery, i, j, "euclidean", True)
    distance = ops.indexed_distance(*common)
    grad_x, grad_y = ops.indexed_distance_backward(given.upstream(count), *common, True, True)
    return {"distance": distance, "grad x": grad_x, "grad gallery": grad_y}


CASES: dict[str, Case] = {
    "ranked_list": pair("ranked_list", RANKED_LIST, two_set=False, query_only=True),
    "ranked_list streamed": pair("ranked_list", STREAMED, two_set=True, query_only=False),
    "contrastive": pair("contrastive", [0.0, 1.0, 2.0], two_set=False, query_only=False),
    "triplet hard": triplet("hard", two_set=True),
    "triplet semihard": triplet("semihard", two_set=False),
    "triplet all": triplet("all", two_set=False),
    "triplet band": triplet("semihard_all", two_set=True),
    "mine_hard": mined("mine_hard"),
    "mine_semihard": mined("mine_semihard"),
    "topk few": nearest(5),
    "topk many": nearest(40),
    "listed pairs": listed,
}


def error(got: Tensor, exact: Tensor) -> float:
    """Relative L2, or the share of indices that differ; inf where shapes do or a number is not finite."""
    if got.shape != exact.shape:
        return float("inf")
    if not got.is_floating_point():
        return (got != exact).double().mean().item() if got.numel() else 0.0
    gap = (got.double() - exact).norm() / exact.norm().clamp(min=1e-30) if got.numel() else torch.zeros(())
    return gap.nan_to_num(torch.inf).item()


def compare(request: dict[str, Any]) -> dict[str, Any]:
    import fused_rank  # noqa: F401  (registers the CPU engine)
    from fused_rank.triton import ops

    case, dtype, shape = CASES[request["case"]], DTYPES[request["dtype"]], Shape(*request["shape"])
    emulator = Emulator(TARGETS[request["target"]], profile=request.get("profile", False))
    with emulating(emulator):
        got = case(ops, Inputs(shape, dtype, exact=False))
    exact = case(torch.ops.fused_rank, Inputs(shape, dtype, exact=True))
    errors = {name: error(got[name], exact[name]) for name in exact}
    return {"errors": errors, "counts": emulator.counts, "opcodes": emulator.opcodes}


def break_kernel(request: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Runs one launch again with each of up to `most` matches of `pattern` replaced, spread over the text."""
    from fused_rank.triton import ops

    case, dtype, shape = CASES[request["case"]], DTYPES[request["dtype"]], Shape(*request["shape"])
    emulator = Emulator(TARGETS[request["target"]], keep=request["kernel"])
    with emulating(emulator):
        case(ops, Inputs(shape, dtype, exact=False))
    kept = emulator.kept
    if kept is None:
        raise ValueError(f"{request['case']} does not launch {request['kernel']}")
    places = kept.places(request["pattern"])
    chosen = places[:: max(1, len(places) // request["most"])][: request["most"]]
    right = kept.replay(kept.text)
    return [(place.group(), _caught(kept, kept.edited(place, request["to"]), right)) for place in chosen]


def _caught(kept: Launch, text: str, right: list[Tensor]) -> str | None:
    try:
        got = kept.replay(text)
    except PTXError as refusal:
        return str(refusal)
    wrong = max(error(a, b.double() if b.is_floating_point() else b) for a, b in zip(got, right, strict=True))
    return f"wrong by {wrong:.1e}" if wrong > 1e-4 else None


def main() -> None:
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise SystemExit("TRITON_INTERPRET must be 0: nothing is compiled under the interpreter")
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # with it, memory handed out unwritten holds NaN
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: Any = break_kernel(request) if "kernel" in request else compare(request)
        except Exception as error:  # the test that asked reports it
            answer = {"failed": f"{type(error).__name__}: {str(error.__cause__ or error)[-1500:]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

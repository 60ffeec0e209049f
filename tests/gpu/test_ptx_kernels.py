"""The kernels as compiled for sm_80 and sm_90, executed on the CPU: right against fp64, and broken ones are caught."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from .aot.pool import Worker
from .ptx_cases import CASES, ODD, RAGGED

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

GRADIENT = {"float32": 1e-5, "bfloat16": 3e-3, "float16": 6e-4}  # relative L2, as in tolerances.py
VALUE = 1e-5
# sm_90 has other code where products are 16-bit or tf32: wgmma
RUNS = [("sm_80", "float32", case) for case in CASES]
RUNS += [
    ("sm_80", "float16", "contrastive"),
    ("sm_80", "bfloat16", "topk few"),
    ("sm_90", "float32", "contrastive"),
]
RUNS += [("sm_90", "bfloat16", case) for case in ("ranked_list", "ranked_list streamed", "triplet hard")]

# tensor-core instructions, and none where equal distances must come out equal
PRODUCTS = {
    ("sm_90", "bfloat16", "ranked_list"): {"wgmma"},
    ("sm_80", "float16", "contrastive"): {"mma"},
    ("sm_80", "float32", "contrastive"): {"mma"},
    ("sm_80", "float32", "mine_hard"): set(),
}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    process = Worker("tests.gpu.ptx_cases", "ptx")
    yield process
    process.close()


def ask(worker: Worker, **request: Any) -> Any:
    answer = worker.ask({"shape": RAGGED[request["dtype"]], **request})
    if isinstance(answer, dict) and "failed" in answer:
        pytest.fail(answer["failed"], pytrace=False)
    return answer


@pytest.mark.parametrize(("target", "dtype", "case"), RUNS)
def test_compiled_kernels_agree_with_fp64(worker, target, dtype, case):
    answer = ask(worker, case=case, target=target, dtype=dtype)
    assert answer["counts"], "no kernel was launched"
    for name, error in answer["errors"].items():
        allowed = {"grad": GRADIENT[dtype], "inde": 0.0}.get(name[:4], VALUE)
        assert error <= allowed, f"{name} is off by {error:.1e}"
    opcodes = {opcode for each in answer["opcodes"].values() for opcode in each}
    assert (opcodes & {"mma", "wgmma"}) == PRODUCTS.get((target, dtype, case), opcodes & {"mma", "wgmma"})


@pytest.mark.parametrize(("target", "dtype"), [("sm_80", "float32"), ("sm_90", "bfloat16")])
def test_rows_of_odd_width(worker, target, dtype):
    answer = ask(worker, case="ranked_list", target=target, dtype=dtype, shape=ODD)
    assert answer["errors"]["rows"] <= VALUE
    assert answer["errors"]["grad x"] <= GRADIENT[dtype]


BROKEN = [
    ("a barrier dropped", r"bar\.sync\s+0;", "", 6, 4),
    ("a wait for copies dropped", r"cp\.async\.wait_group\s+\d+;", "", 3, 2),
    ("a wait one group short", r"cp\.async\.wait_group\s+0;", "cp.async.wait_group 1;", 3, 1),
    ("a bound taken too far", r"setp\.lt\.s32(\s+%p\d+, %r\d+, %r\d+;)", r"setp.le.s32\1", 6, 1),
    ("a predicate inverted", r"@(%p\d+ st\.global)", r"@!\1", 3, 3),
]


@pytest.mark.parametrize(
    ("pattern", "to", "tried", "caught"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_broken_ptx_is_caught(worker, pattern, to, tried, caught):
    """Not each place matters (some barriers only guard memory that no run reuses), but most do."""
    where = {"case": "contrastive", "target": "sm_80", "dtype": "bfloat16", "kernel": "statistics_kernel"}
    outcomes = ask(worker, **where, pattern=pattern, to=to, most=tried)
    assert outcomes, "nothing to break"
    found = [why for _, why in outcomes if why]
    assert len(found) >= min(caught, len(outcomes)), outcomes

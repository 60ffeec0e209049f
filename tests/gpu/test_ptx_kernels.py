"""The kernels as compiled for sm_80 and sm_90, executed on the CPU: right against fp64, and broken ones are caught."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from fused_rank.ops import triton_library

from .aot.pool import Worker
from .kernel_names import kernel_names
from .pair_checks import FORMS
from .ptx_cases import MANY, ODD, PAIRS, RAGGED, SMALL, WIDE, Shape

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

GRADIENT = {"float32": 1e-5, "bfloat16": 3e-3, "float16": 6e-4}  # relative L2, as in tolerances.py
VALUE = 1e-5
# Each kernel of the backend, and a case that runs it.
KERNELS = {
    "all_backward_kernel": "triplet all",
    "all_forward_kernel": "triplet all",
    "centre_kernel": "clusters",
    "coefficient_kernel": "sup_con cosine two-set",
    "edge_sum_kernel": "listed pairs",
    "finish_kernel": "contrastive",
    "gradient_kernel": "contrastive",
    "hard_kernel": "mine_hard",
    "key_kernel": "topk many",
    "listed_square_kernel": "listed pairs",
    "local_kernel": "clusters",
    "near_gradient_kernel": "clusters",
    "near_statistics_kernel": "clusters",
    "one_pass_kernel": "ranked_list",
    "scale_kernel": "contrastive",
    "semihard_kernel": "mine_semihard",
    "statistics_kernel": "contrastive",
    "strip_kernel": "topk few",
    "strip_pull_kernel": "triplet all",
    "topk_kernel": "topk few",
}
Run = tuple[str, str, str, Shape]  # target, dtype, case, shape


def runs(target: str, dtype: str, *cases: str, shapes: dict[str, Shape]) -> list[Run]:
    return [(target, dtype, case, shapes[dtype]) for case in cases]


# sm_90 has other code where products are 16-bit or tf32: wgmma
RUNS = [
    *runs("sm_80", "float32", "ranked_list", "ranked_list streamed", "contrastive", shapes=RAGGED),
    *runs(
        "sm_80", "float32", "triplet hard", "triplet semihard", "triplet all", "triplet band", shapes=RAGGED
    ),
    *runs("sm_80", "float32", "mine_hard", "mine_semihard", "listed pairs", shapes=RAGGED),
    *runs("sm_80", "float32", "topk few", "topk many", shapes=RAGGED),
    *runs("sm_80", "float16", "contrastive", shapes=RAGGED),
    *runs("sm_80", "bfloat16", "topk few", shapes=RAGGED),
    *runs("sm_90", "float32", "contrastive", shapes=RAGGED),
    *runs("sm_90", "bfloat16", "ranked_list", "ranked_list streamed", "triplet hard", shapes=RAGGED),
]
# Every term in self form; the other forms differ in what of the slopes is compiled and in where positives lie.
RUNS += [
    *runs("sm_80", "float32", "ranked_list euclidean self", "contrastive euclidean symmetric", shapes=SMALL),
    *runs("sm_80", "float32", "sup_con cosine self", "sup_con cosine symmetric", shapes=SMALL),
    *runs("sm_80", "float32", "sup_con cosine two-set", shapes=WIDE),
    *runs("sm_80", "float32", "softplus_positives cosine two-set", shapes=SMALL),
    *runs("sm_80", "float32", "softplus_positives cosine symmetric", shapes=SMALL),
    *runs("sm_80", "float32", "clusters", shapes={"float32": MANY}),
    *runs("sm_80", "float32", "margin euclidean self", "margin euclidean two-set", shapes=SMALL),
    *runs(
        "sm_80", "float16", "multi_similarity cosine self", "multi_similarity cosine symmetric", shapes=SMALL
    ),
    *runs("sm_90", "float32", "lifted euclidean self", "lifted euclidean symmetric", shapes=SMALL),
    *runs("sm_90", "bfloat16", "negatives_lse cosine self", "negatives_lse dot symmetric", shapes=SMALL),
    *runs(
        "sm_90", "bfloat16", "softplus_negatives cosine self", "softplus_negatives dot two-set", shapes=SMALL
    ),
    *runs("sm_90", "bfloat16", "circle cosine symmetric", shapes=SMALL),
    *runs("sm_90", "bfloat16", "circle cosine self", shapes=WIDE),
]

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
    answer = worker.ask(request)
    if isinstance(answer, dict) and "failed" in answer:
        pytest.fail(answer["failed"], pytrace=False)
    return answer


@pytest.mark.parametrize(("target", "dtype", "case", "shape"), RUNS, ids=["-".join(run[:3]) for run in RUNS])
def test_compiled_kernels_agree_with_fp64(worker, target, dtype, case, shape):
    answer = ask(worker, case=case, target=target, dtype=dtype, shape=shape)
    assert {kernel for kernel, its in KERNELS.items() if its == case} <= set(answer["counts"])
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


def test_every_kernel_has_a_case():
    assert set(KERNELS) == kernel_names()
    assert set(KERNELS.values()) <= {case for _, _, case, _ in RUNS}


def test_every_term_has_cases():
    """In self form and with two sets; among all terms, in every form."""
    forms: dict[str, set[str]] = {}
    for _, _, name, _ in RUNS:
        if name in PAIRS:
            forms.setdefault(PAIRS[name].term, set()).add(PAIRS[name].form)
    assert set(forms) == set(triton_library.TERMS)
    assert not [term for term, its in forms.items() if "self" not in its or its == {"self"}]
    assert set().union(*forms.values()) == set(FORMS)


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
    where = {"case": "contrastive", "target": "sm_80", "dtype": "bfloat16", "shape": RAGGED["bfloat16"]}
    outcomes = ask(worker, **where, kernel="statistics_kernel", pattern=pattern, to=to, most=tried)
    assert outcomes, "nothing to break"
    found = [why for _, why in outcomes if why]
    assert len(found) >= min(caught, len(outcomes)), outcomes

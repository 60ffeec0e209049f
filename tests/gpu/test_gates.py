"""The counters of shipped kernels: recorded, within the gates, and still true of what is compiled now."""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from .aot import disassembly, executed, plan, pool, records, report, sources
from .aot.build import needs_tensor_cores, violations
from .aot.pool import Job
from .aot.records import Entry, Record
from .aot.targets import TARGETS
from .ptx_cases import CASES

RECORD = records.load()
SAMPLE = ("sm_80", "sm_90", "sm_100", "gfx942")  # one compilation each is repeated although nothing changed
MOST = 12  # compilations repeated because sources changed
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def shipped() -> dict[str, tuple[str, str]]:
    return pool.listing()


@needs_triton
def test_every_shipped_kernel_is_recorded(shipped):
    missing = [job for job in plan.cover(shipped) if not counts_of(job)]
    left_over = [name for name in RECORD.entries if name not in shipped]
    assert not missing, f"run make gates: {len(missing)} compilations are not recorded, {missing[:3]}"
    assert not left_over, f"run make gates: {len(left_over)} kernels no longer ship, {left_over[:3]}"


def counts_of(job: Job) -> dict[str, int]:
    entry = RECORD.entries.get(job.identity)
    return entry.counts.get(job.target, {}) if entry else {}


def test_the_record_has_no_violation():
    assert RECORD.entries
    assert not {name: entry.violations for name, entry in RECORD.entries.items() if entry.violations}


@needs_triton
def test_what_is_compiled_now_is_what_was_recorded(shipped):
    if RECORD.triton != version("triton"):
        pytest.skip(
            f"recorded with triton {RECORD.triton}, this is {version('triton')}: counts differ between releases"
        )
    jobs = [job for job in plan.complete(shipped) if counts_of(job)]
    changed = [job for job in jobs if RECORD.entries[job.identity].source != job.source]
    assert len(changed) <= MOST, f"run make gates: sources behind {len(changed)} compilations changed"
    by_chance = sorted(jobs, key=lambda job: (job.identity[-6:], job.target))  # the identity ends in a hash
    sample = [next(job for job in by_chance if job.target == target) for target in SAMPLE]
    results = pool.build([*changed, *sample], 1, lambda job, result: None)
    for job, result in results.items():
        assert not result["violations"], (job, result["violations"])
        grown = records.worsened(counts_of(job), result["counts"])
        assert not grown, (
            f"{job.target} {job.identity}: {grown}; if it must be, make gates GATES_ARGS=--reason=..."
        )


GOOD = {"registers": 128, "stack bytes": 0, "shared bytes": 32768, "instructions": 900, "tensor": 32}


@pytest.mark.parametrize(
    ("change", "target", "tensor", "why"),
    [
        ({"stack bytes": 8, "local memory": 4}, "sm_80", True, "spills"),
        ({"local memory": 2}, "sm_90", True, "spills"),
        ({"spilled registers": 1}, "gfx942", True, "spills"),
        ({"shared bytes": 100 * 1024}, "sm_120", True, "shared memory"),
        ({"shared bytes": 65 * 1024}, "gfx942", True, "shared memory"),
        ({"tensor": 0}, "sm_100", True, "no tensor-core"),
        ({}, "sm_80", False, "exact fp32"),
    ],
)
def test_gates_refuse(change, target, tensor, why):
    assert why in " ".join(violations({**GOOD, **change}, TARGETS[target], tensor))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_gates_pass_what_is_good(target):
    assert not violations(GOOD, target, True)
    assert not violations({**GOOD, "tensor": 0}, target, None)
    assert not violations({**GOOD, "stack bytes": 8}, target, True)  # that no instruction touches


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%4 = tt.dot %a, %b, %c : tensor<64x32xbf16> * tensor<32x64xbf16> -> tensor<64x64xf32>", True),
        (
            "%4 = tt.dot %a, %b, %c, inputPrecision = tf32x3 : tensor<64x32xf32> * tensor<32x64xf32> -> x",
            True,
        ),
        ("%4 = tt.dot %a, %b, %c : tensor<64x32xf32> * tensor<32x64xf32> -> tensor<64x64xf32>", False),
        ("%4 = tt.reduce %a", None),
    ],
)
def test_which_products_need_tensor_cores(line, expected):
    assert needs_tensor_cores(line) is expected


SASS = """
        /*0070*/                   LDGSTS.E.BYPASS.128 [R219], desc[UR8][R6.64] ;
        /*0080*/              @!P0 LDG.E R4, desc[UR8][R2.64] ;
        /*0090*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*00a0*/               @P1 STL [R1+0x4], R7 ;
        /*00b0*/                   FFMA.FTZ R8, R4, R6, R8 ;
        /*00c0*/                   FADD R8, R4, R6 ;
        /*00d0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00e0*/                   MUFU.EX2 R4, R4 ;
        /*00f0*/                   IMAD R4, R4, R4, R5 ;
"""


def test_instructions_are_classified():
    counts = disassembly.classify(disassembly.SASS_OPCODE.findall(SASS), disassembly.NVIDIA_CLASSES)
    expected = {"instructions": 9, "tensor": 1, "local memory": 1, "global load": 2, "barrier": 1}
    assert counts == {**expected, "special function": 1, "fp32": 2}
    text = (
        "\tv_mfma_f32_32x32x8_bf16 a[0:15], v[0:1]\n\tds_read_b128 v[0:3], v4\n\tscratch_load_dword v1, v0\n"
    )
    counts = disassembly.classify(disassembly.GCN_OPCODE.findall(text), disassembly.AMD_CLASSES)
    assert counts == {"instructions": 3, "tensor": 1, "shared load": 1, "local memory": 1}


def test_worsening_is_more_than_five_percent():
    assert not records.worsened({"registers": 100}, {"registers": 105})
    assert records.worsened({"registers": 100}, {"registers": 106}) == ["registers 100 -> 106"]
    assert records.worsened({}, {"barrier": 1}) == ["barrier 0 -> 1"]
    assert not records.worsened({"tensor": 32, "fp32": 8}, {"tensor": 16, "fp32": 8})


def test_the_record_survives_writing(tmp_path):
    entry = Entry("abc", "label", {"sm_80": GOOD, "sm_90": {}}, {"sm_90": ["does not compile"]})
    record = Record("3.9.0", ["because"], {'kernel["x"] a1': entry}, {"case": {"per pair": 1.5}})
    records.save(record, tmp_path / "file.json")
    assert records.load(tmp_path / "file.json") == record


def test_counts_are_reported_by_pair():
    pairs = executed.SHAPE[0] * executed.SHAPE[1]
    loads = {"ld.global requests": 8, "ld.global sectors": 32, "ld.global bytes": 1024}
    shared = {"ld.shared wavefronts": 6, "ld.shared ideal wavefronts": 4}
    products = {"instr mma": pairs // 64, "instr fma": pairs // 16}
    found = executed.per_pair({"warp instructions": pairs // 8, **loads, **shared, **products})
    assert found == {
        "instructions": 4.0,
        "tensor-core instructions": 0.5,
        "bytes loaded": 0.0625,
        "sectors per load request": 4.0,
        "sector bytes per byte": 1.0,
        "bank conflict factor": 1.5,
    }
    assert executed.per_pair({"warp instructions": pairs // 64}) == {}  # no walk over the pairs
    shown = report.page(Record("3.9.0", emulated={"a kernel, a case": found}))
    assert "| a kernel, a case | 1.5 | 0.0625 | 4 | 1 | 4 | 0.5 |" in shown


def test_every_case_was_executed():
    assert set(executed.CASES) <= set(CASES)
    wanted = {f"{target} {dtype}, {case}" for target, dtype in executed.RUNS for case in executed.CASES}
    recorded = {name.partition(" ")[2] for name in RECORD.emulated}
    assert recorded == wanted, "run make gates GATES_ARGS=--only-executed"


def helper(x):
    return x * SCALE


SCALE = 2


def kernel_like(x):
    """Doc."""
    return helper(x) + 1  # comment


def test_source_hash_sees_callees_and_constants_but_no_comments(monkeypatch):
    before = sources.source_hash(kernel_like, {})
    assert sources.source_hash(kernel_like, {"TERM": (helper,)}) == before
    assert sources.normalised("def f(x):\n    '''doc'''\n    return x  # why\n") == sources.normalised(
        "def f(x):\n\n    return x\n"
    )
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "SCALE", 3)
    scaled = sources.source_hash(kernel_like, {})
    monkeypatch.setattr(module, "helper", lambda x: x + x)
    assert len({before, scaled, sources.source_hash(kernel_like, {})}) == 3


def test_the_plan_covers_each_shape_everywhere_and_all_kernels_somewhere():
    names = [
        f"gradient[TERM={term},BM=64,DS={width}] fp32 w4 s2 {term}{width}"
        for term in "ab"
        for width in (64, 128)
    ]
    listing = dict.fromkeys(names, ("source", "label"))
    cover = plan.cover(listing)
    somewhere = {(job.identity, job.target) for job in cover}
    assert {target for _, target in somewhere} == set(TARGETS)
    for width in (64, 128):
        assert all((names[width // 128], target) in somewhere for target in TARGETS)
    assert {(names[2], target) for target in plan.FIRST} <= somewhere
    assert len(cover) == 2 * len(TARGETS) + len(plan.FIRST)
    assert set(cover) < set(plan.complete(listing))
    assert len(plan.complete(listing)) == 4 * len(TARGETS)

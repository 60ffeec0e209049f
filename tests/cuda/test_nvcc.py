"""Every kernel compiled by nvcc for every target GPU: recorded, without spills, and still what the sources make."""

from __future__ import annotations

import re
from itertools import product

import pytest

from fused_rank.ops.schemas import PAIR_CHANNELS

from . import compiling, counters
from .counters import Entry, Record
from .gpus import GPUS, occupancy, violations

RECORD = counters.load()
MOST = 4  # files that are compiled again, for one target, because they changed
SAMPLE = (("topk.cu", "sm_80"), ("listed.cu", "sm_90"), ("semihard.cu", "sm_120"))
needs_nvcc = pytest.mark.skipif(isinstance(compiling.nvcc(), str), reason=str(compiling.nvcc()))
SOURCES = {path.name: path for path in compiling.sources()}
STRUCT = re.compile(r"(template <bool [^>]+>\s+)?struct (\w+) \{\s+static constexpr int kChannels")


def test_every_file_is_recorded_for_every_target():
    assert RECORD.files.keys() == SOURCES.keys(), "run make gates"
    for entry in RECORD.files.values():
        assert entry.kernels
        assert all(counts.keys() == GPUS.keys() for counts in entry.kernels.values())


def test_the_record_has_no_violation():
    found = {
        f"{target} {kernel}": why
        for entry in RECORD.files.values()
        for kernel, by_target in entry.kernels.items()
        for target, counts in by_target.items()
        if (why := violations(counts, GPUS[target]))
    }
    assert not found


def every_term() -> list[str]:
    """The structs of csrc/terms/ that are losses of pairs, as C++ writes them."""
    found = []
    for path in sorted(compiling.ROOT.glob("csrc/terms/*.h")):
        for template, name in STRUCT.findall(path.read_text()):
            choices = product(("false", "true"), repeat=template.count("bool"))
            found += [f"{name}<{', '.join(choice)}>" for choice in choices] if template else [name]
    return found


@pytest.mark.parametrize("sweep", ["statistics", "coefficients"])
def test_pair_sweeps_are_compiled_for_every_term_and_type(sweep):
    terms = every_term()
    assert len(terms) >= len(PAIR_CHANNELS)
    text = "\n".join(kernel for entry in RECORD.files.values() for kernel in entry.kernels)
    for term in terms:
        for kind in ("float", "double"):
            kernel = rf"^{sweep}\w*<{kind}, {re.escape(term)} ?>"
            assert re.search(kernel, text, re.M), f"{kernel} is not compiled"


def test_kernels_see_no_header_but_their_own_and_cuda():
    """Every include of csrc/cuda/ and of what it includes is a file beside it, of C++, or the CUDA runtime."""
    for path in SOURCES.values():
        for part in compiling.emulated.made_of(compiling.emulated.Source(path, ())):
            if not part.is_relative_to(compiling.ROOT / "csrc"):
                continue
            for name in re.findall(r"#\s*include\s*<([^>]+)>", part.read_text()):
                assert re.fullmatch(r"[a-z_]+|cuda_runtime\.h|\w+intrin\.h", name), (
                    f"{part.name} includes {name}"
                )


@needs_nvcc
@pytest.mark.slow
def test_what_is_compiled_now_is_what_was_recorded():
    if RECORD.nvcc != compiling.release():
        pytest.skip(
            f"recorded with nvcc {RECORD.nvcc}, this is {compiling.release()}: counts differ between releases"
        )
    changed = [
        name for name, path in SOURCES.items() if RECORD.files[name].source != compiling.source_hash(path)
    ]
    assert len(changed) <= MOST, f"run make gates: {len(changed)} files changed"
    targets = list(GPUS)
    jobs = {*SAMPLE, *((name, targets[i % len(targets)]) for i, name in enumerate(changed))}
    for name, target in sorted(jobs):
        for kernel, counts in compiling.count(SOURCES[name], GPUS[target]).items():
            assert not violations(counts, GPUS[target]), f"{target} {name} {kernel}"
            before = RECORD.files[name].kernels.get(kernel)
            assert before is not None, f"run make gates: {name} has a new kernel, {kernel}"
            worse = counters.grown(before[target], counts, GPUS[target])
            assert not worse, f"{target} {kernel}: {worse}; if it must be, scripts/cuda_gates.py --reason=..."


GOOD = {"threads": 256, "registers": 128, "shared bytes": 40960, "stack bytes": 0, "spill bytes": 0}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stack bytes": 8}, "spills"),
        ({"spill bytes": 16}, "spills"),
        ({"shared bytes": 232 * 1024}, "shared memory"),
    ],
)
def test_gates_refuse(change, why):
    assert why in " ".join(violations({**GOOD, **change}, GPUS["sm_90"]))
    assert not violations(GOOD, GPUS["sm_90"])


@pytest.mark.parametrize(
    ("target", "change", "percent"),
    [
        ("sm_90", {}, 25),  # 65536 / (128 · 256) = 2 blocks of 8 warps, of 64
        ("sm_90", {"registers": 129}, 12),  # rounded up to 136 a thread: 1 block
        ("sm_90", {"registers": 32}, 62),  # 228 KiB / 41 KiB = 5 blocks
        ("sm_86", {"registers": 32}, 33),  # 100 KiB / 41 KiB = 2 blocks of 8 warps, of 48
        ("sm_80", {"registers": 32, "shared bytes": 0}, 100),
        ("sm_86", {"registers": 32, "shared bytes": 0, "threads": 32}, 33),  # 16 blocks at most
    ],
)
def test_occupancy(target, change, percent):
    assert occupancy({**GOOD, **change}, GPUS[target]) == percent


def test_one_register_too_many_counts_by_the_occupancy_it_costs():
    gpu = GPUS["sm_80"]
    assert not counters.grown(GOOD, {**GOOD, "registers": 127}, gpu)
    assert counters.grown(GOOD, {**GOOD, "registers": 129}, gpu) == ["occupancy 25% -> 12%"]
    assert counters.grown(GOOD, {**GOOD, "registers": 140}, gpu)[0] == "registers 128 -> 140"


def test_the_record_survives_writing(tmp_path):
    record = Record(
        "13.0",
        ["because"],
        {"a.cu": Entry("hash", {"k<float>": {"sm_80": GOOD, "sm_90": GOOD}})},
        {"`k<float>` sm_80, case": {"instructions": 1.5}},
    )
    counters.save(record, tmp_path / "file.json")
    assert counters.load(tmp_path / "file.json") == record
    slower = Record("13.0", [], {"a.cu": Entry("hash", {"k<float>": {"sm_80": {**GOOD, "registers": 200}}})})
    assert counters.compare(record, slower) == [
        "sm_80 k<float>: registers 128 -> 200",
        "sm_80 k<float>: occupancy 25% -> 12%",
    ]
    assert "| `k<float>` | 256 | 40960 | 128 / 25 | 128 / 25 |" in counters.page(record)
    assert "| `k<float>` sm_80, case | 1.5 |" in counters.page(record)


def test_ptx_and_ptxas_are_read():
    text = """ptxas info    : Compiling entry function '_Z1kIdEvPKT_' for 'sm_90'
ptxas info    : Function properties for _Z1kIdEvPKT_
    8 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 8 bytes cumulative stack size, 1116 bytes smem
"""
    (found,) = compiling.USAGE.finditer(text)
    expected = {"threads": 256, "registers": 32, "shared bytes": 1116, "stack bytes": 8, "spill bytes": 32}
    assert compiling._counts(found, 256) == expected
    assert compiling._threads(".param .u64 x\n)\n.maxntid 64, 4, 1\n") == 256
    assert (
        compiling.shortened(
            "void fused_rank::cuda::_GLOBAL__N__87c7_7_topk_cu_ae6::k<float, fused_rank::RankedList<true> >(int)"
        )
        == "k<float, RankedList<true> >"
    )


def test_comments_and_layout_leave_the_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "ROOT", tmp_path)
    file = tmp_path / "csrc" / "a.cu"
    file.parent.mkdir()

    def hashed(text: str) -> str:
        file.write_text(text)
        return compiling.source_hash(file)

    assert hashed("int a;  // one\n") == hashed("int a; /* two */\n\n") != hashed("int b;\n")

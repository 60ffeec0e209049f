"""The emulator's memory, barriers, warps and tensor-core instructions: right results, and each check seen to fail."""

from __future__ import annotations

import numpy as np
import pytest

from .ptx import Machine, PTXError, parse
from .ptx.snippets import FRAME, run

WORDS = np.arange(64, dtype=np.int32)
LOAD, STORE = "ld.global.b32 %r4, [%rd5];", "st.global.b32 [%rd4], %r4;"
OWN = "add.u32 %r5, %r2, smem;"  # this thread's word of shared memory
OTHER = (
    "xor.b32 %r6, %r1, 32; shl.b32 %r6, %r6, 2; add.u32 %r6, %r6, smem;"  # its partner's in the other warp
)


def test_copy_and_grid():
    text = FRAME.format(threads=32, width=4, body="""
      mov.u32 %r7, %ctaid.x; mad.lo.s32 %r8, %r7, 32, %r1; setp.ge.s32 %p1, %r8, %r3;
      @%p1 bra $done;
      mul.wide.s32 %rd6, %r8, 4; add.s64 %rd7, %rd2, %rd6; add.s64 %rd8, %rd1, %rd6;
      ld.global.b32 %r4, [%rd7]; st.global.b32 [%rd8], %r4;
      $done:""")  # fmt: skip
    given, out = np.arange(70, dtype=np.int32), np.zeros(70, np.int32)
    Machine().launch(parse(text), (3,), 32, [out, given, 70])
    np.testing.assert_array_equal(out, given)
    with pytest.raises(PTXError, match=r"block \(2, 0, 0\).*out of bounds"):
        Machine().launch(parse(text), (3,), 32, [out, given, 71])


def test_global_checks():
    with pytest.raises(PTXError, match="out of bounds"):
        run("ld.global.b32 %r4, [%rd5+4];", WORDS)
    with pytest.raises(PTXError, match="misaligned"):
        run("ld.global.b32 %r4, [%rd5+2];", WORDS)
    with pytest.raises(PTXError, match="misaligned"):
        run("ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%rd5];", WORDS)
    with pytest.raises(PTXError, match="out of bounds"):
        run("st.global.b32 [%rd4+-8], %r1;", WORDS)


def test_signed_bytes_are_extended():
    body = "add.s64 %rd6, %rd2, 1; ld.global.s8 %r4, [%rd6]; st.global.b32 [%rd4], %r4;"
    assert (run(body, np.full(64, 0x0000F000, np.int32)) == -16).all()


def test_loop_with_divergent_threads():
    """Thread t adds 1..t: as many rounds as its number."""
    body = """mov.u32 %r4, 0; mov.u32 %r5, 0;
      $again: setp.ge.u32 %p1, %r5, %r1; @%p1 bra $out; add.u32 %r5, %r5, 1; add.u32 %r4, %r4, %r5; bra.uni $again;
      $out: """
    np.testing.assert_array_equal(run(body + STORE, WORDS), WORDS * (WORDS + 1) // 2)


EXCHANGE = f"{LOAD} {OWN} {OTHER} st.shared.b32 [%r5], %r4; bar.sync 0; ld.shared.b32 %r4, [%r6]; {STORE}"


def test_shared_memory_between_warps():
    np.testing.assert_array_equal(run(EXCHANGE, WORDS, shared=256), WORDS ^ 32)


def test_a_missing_barrier_is_a_race():
    with pytest.raises(PTXError, match="race"):
        run(EXCHANGE.replace("bar.sync 0;", ""), WORDS, shared=256)
    write_after_read = EXCHANGE.replace(STORE, f"st.shared.b32 [%r5], %r4; {STORE}")
    with pytest.raises(PTXError, match="race"):
        run(write_after_read, WORDS, shared=256)
    with pytest.raises(PTXError, match="two warps write the same byte"):
        run("mov.u32 %r5, smem; st.shared.b32 [%r5], %r1;", WORDS, shared=256)


def test_replicated_stores_are_no_race():
    body = "mov.u32 %r5, smem; st.shared.b32 [%r5], %r3; bar.sync 0; ld.shared.b32 %r4, [%r5];" + STORE
    assert (run(body, WORDS, shared=16, n=9) == 9).all()


def test_shared_checks():
    with pytest.raises(PTXError, match="shared access out of bounds"):
        run(EXCHANGE, WORDS, shared=252)
    with pytest.raises(PTXError, match="misaligned shared"):
        run(f"{OWN} ld.shared.b32 %r4, [%r5+2];", WORDS, shared=512)


def test_shared_memory_starts_as_nan():
    got = run(f"{OWN} ld.shared.b32 %r4, [%r5]; {STORE}", WORDS.view(np.float32), shared=256)
    assert np.isnan(got).all()


def test_barriers_must_be_met_by_all():
    with pytest.raises(PTXError, match="have exited"):
        run("setp.lt.u32 %p1, %r1, 32; @%p1 ret; bar.sync 0;", WORDS)
    with pytest.raises(PTXError, match="different barriers"):
        run("setp.lt.u32 %p1, %r1, 32; @%p1 bra $low; bar.sync 0; bra $end; $low: bar.sync 0; $end:", WORDS)
    with pytest.raises(PTXError, match="not emulated"):
        run("bar.sync 1, 32;", WORDS)


COPY = f"""{OWN} {OTHER} cp.async.ca.shared.global [%r5], [%rd5], 4; cp.async.commit_group;
  cp.async.wait_group 0; bar.sync 0; ld.shared.b32 %r4, [%r6]; {STORE}"""


@pytest.mark.parametrize(
    ("how", "threshold", "expected"),
    [("or", 1, True), ("or", 0, False), ("and", 64, True), ("and", 63, False)],
)
def test_a_barrier_that_votes(how, threshold, expected):
    vote = f"setp.lt.u32 %p1, %r1, {threshold}; bar.red.{how}.pred %p2, 0, %p1; selp.b32 %r4, 1, 0, %p2;"
    assert set(run(vote + STORE, WORDS)) == {int(expected)}
    # the warps come one after the other
    apart = "setp.lt.u32 %p3, %r1, 32; @%p3 bra $first; add.u32 %r9, %r1, 1; bra $all; $first: mov.u32 %r9, 0; $all:"
    assert set(run(apart + vote + STORE, WORDS)) == {int(expected)}


def test_a_barrier_that_counts():
    count = "setp.lt.u32 %p1, %r1, 35; bar.red.popc.u32 %r4, 0, %p1;"
    assert set(run(count + STORE, WORDS)) == {35}


def test_lanes_wait_for_each_other_at_a_vote():
    """One lane goes round an extra loop each time before it votes again."""
    body = """mov.u32 %r4, 0;
      $again: setp.lt.u32 %p1, %r4, 3; vote.sync.any.pred %p2, %p1, -1;
      @!%p2 bra $done;
      setp.ne.u32 %p3, %r1, %r4; add.u32 %r4, %r4, 1;
      @%p3 bra $again;
      add.u32 %r5, %r5, 1; bra $again;
      $done:"""
    assert set(run(body + STORE, WORDS[:32], threads=32)) == {3}


def test_parameters_by_value():
    text = """.visible .entry k(.param .align 8 .b8 k_param_0[16], .param .u64 out) {
      .reg .b64 %rd<4>; .reg .b32 %r<4>;
      mov.b64 %rd1, k_param_0; ld.param.u32 %r1, [%rd1+8]; ld.param.u64 %rd2, [out];
      st.global.u32 [%rd2], %r1; ret; }"""
    out = np.zeros(1, np.int32)
    Machine().launch(parse(text), [1], 1, [np.array([1, 2, 77, 4], np.int32).tobytes(), out])
    assert out[0] == 77
    with pytest.raises(PTXError, match="16 bytes is given 4"):
        Machine().launch(parse(text), [1], 1, [b"1234", out])


def test_asynchronous_copy():
    np.testing.assert_array_equal(run(COPY, WORDS, shared=256), WORDS ^ 32)
    zeros = COPY.replace("[%rd5], 4;", "[%rd5], 4, %r3;")
    assert not run(zeros, WORDS, shared=256, n=0).any()


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        ("cp.async.wait_group 0;", "still fills"),
        ("cp.async.commit_group;", "still fills"),
        ("bar.sync 0;", "race"),
    ],
)
def test_asynchronous_copies_need_their_synchronisation(dropped, message):
    with pytest.raises(PTXError, match=message):
        run(COPY.replace(dropped, ""), WORDS, shared=256)


def test_wait_group_leaves_the_newest():
    body = f"""{OWN} cp.async.ca.shared.global [%r5], [%rd5], 4; cp.async.commit_group;
      cp.async.ca.shared.global [%r5+256], [%rd5], 4; cp.async.commit_group; cp.async.wait_group 1;
      ld.shared.b32 %r4, [%r5]; {STORE}"""
    np.testing.assert_array_equal(run(body + "cp.async.wait_all;", WORDS, shared=512), WORDS)
    with pytest.raises(PTXError, match="without a wait at exit"):
        run(body, WORDS, shared=512)
    with pytest.raises(PTXError, match="still fills"):
        run(body.replace("ld.shared.b32 %r4, [%r5]", "ld.shared.b32 %r4, [%r5+256]"), WORDS, shared=512)


@pytest.mark.parametrize(
    ("instruction", "origin"),
    [
        ("shfl.sync.bfly.b32 %r4, %r4, 5, 31, -1;", lambda t: t ^ 5),
        ("shfl.sync.idx.b32 %r4|%p1, %r4, 3, 31, -1;", lambda t: t // 32 * 32 + 3),
        ("shfl.sync.down.b32 %r4, %r4, 1, 31, -1;", lambda t: np.where(t % 32 == 31, t, t + 1)),
        ("shfl.sync.up.b32 %r4, %r4, 2, 0, -1;", lambda t: np.where(t % 32 < 2, t, t - 2)),
        ("shfl.sync.bfly.b32 %r4, %r4, 1, 0x181f, -1;", lambda t: t ^ 1),
    ],
)
def test_shuffles(instruction, origin):
    given = WORDS * 7 + 1
    np.testing.assert_array_equal(run(LOAD + instruction + STORE, given), given[origin(WORDS)])


def test_a_shuffle_without_all_its_lanes_is_an_error():
    body = "setp.lt.u32 %p1, %r1, 8; @%p1 shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1;"
    with pytest.raises(PTXError, match="another mask"):
        run(body, WORDS)
    run(body.replace("-1;", "0xff;"), WORDS[:32], threads=32)


def test_votes_and_warp_reductions():
    ballot = run("setp.lt.u32 %p1, %r1, 35; vote.sync.ballot.b32 %r4, %p1, -1;" + STORE, WORDS)
    assert set(ballot[:32]) == {-1}
    assert set(ballot[32:]) == {0b111}
    total = run(LOAD + "redux.sync.add.s32 %r4, %r4, -1;" + STORE, WORDS)
    assert total.tolist() == [sum(range(32))] * 32 + [sum(range(32, 64))] * 32


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [("add.s32", 2016), ("max.s32", 63), ("min.s32", -1), ("or.b32", -1), ("exch.b32", 63)],
)
def test_atomics_on_one_word(instruction, expected):
    out = np.zeros_like(WORDS)
    out[0] = -1 if instruction in ("min.s32", "or.b32") else 0
    text = FRAME.format(threads=64, width=4, body=f"{LOAD} atom.global.{instruction} %r5, [%rd1], %r4;")
    Machine().launch(parse(text), [1], 64, [out, WORDS, 0])
    assert out[0] == expected


@pytest.mark.parametrize(
    ("operation", "kind"), [("min", "u64"), ("max", "u64"), ("min", "s64"), ("max", "s64")]
)
def test_64_bit_extrema(operation, kind):
    rng = np.random.default_rng(5)
    given = rng.integers(-(2**62), 2**62, 64)
    numbers = given.view(np.uint64) if kind == "u64" else given
    out = numbers[:1].copy()
    text = FRAME.format(
        threads=64,
        width=8,
        body=f"ld.global.b64 %rd6, [%rd5]; red.global.gpu.relaxed.{operation}.{kind} [%rd1], %rd6;",
    )
    Machine().launch(parse(text), [1], 64, [out, given, 0])
    assert out[0] == getattr(numbers, operation)()


def test_profile_counts_sectors_and_bank_conflicts():
    room = np.zeros(96, np.int32)
    aligned = room[-(room.ctypes.data // 4) % 32 :][:64]  # to 128 bytes, as on a GPU

    def profile(body):
        machine = Machine(profile=True)
        run(body, aligned, shared=4096, machine=machine)
        return machine.counts

    together = profile(LOAD)
    assert (together["ld.global requests"], together["ld.global sectors"], together["ld.global bytes"]) == (
        2,
        8,
        256,
    )
    apart = profile(
        "and.b32 %r5, %r1, 7; mul.wide.u32 %rd6, %r5, 32; add.s64 %rd6, %rd2, %rd6; ld.global.b32 %r4, [%rd6];"
    )
    assert apart["ld.global sectors"] == 16
    straight = profile(f"{OWN} st.shared.b32 [%r5], %r1;")
    assert straight["st.shared wavefronts"] == straight["st.shared ideal wavefronts"] == 2
    conflicting = profile("shl.b32 %r5, %r1, 5; add.u32 %r5, %r5, smem; st.shared.b32 [%r5], %r1;")
    assert conflicting["st.shared wavefronts"] == 16
    assert conflicting["instr st.shared"] == 2


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(transposed):
    """Lane 4r + c gets elements (r, 2c) and (r, 2c + 1) of the 8 x 8 matrix of 16-bit numbers."""
    matrix = np.arange(64, dtype=np.uint16).reshape(8, 8)
    given = np.ascontiguousarray(matrix.view(np.int32).reshape(-1))
    body = f"""ld.global.b32 %r4, [%rd5]; {OWN} st.shared.b32 [%r5], %r4; bar.warp.sync -1;
      and.b32 %r6, %r1, 7; shl.b32 %r6, %r6, 4; add.u32 %r6, %r6, smem;
      ldmatrix.sync.aligned.m8n8.x1{".trans" if transposed else ""}.shared.b16 {{%r4}}, [%r6]; {STORE}"""
    got = run(body, given, threads=32, shared=128).view(np.uint16).reshape(8, 8)
    np.testing.assert_array_equal(got, matrix.T if transposed else matrix)


def test_mma_of_identity():
    """A = 1 in its top 8 rows, so D is B on top of zeros, and the accumulator is added."""
    body = """shr.u32 %r4, %r1, 2; and.b32 %r5, %r1, 3; mov.b32 %r8, 0; mov.b32 %r9, 0f40000000;
      setp.eq.u32 %p1, %r4, %r5; selp.b32 %r6, 0f3F800000, 0, %p1;
      add.u32 %r5, %r5, 4; setp.eq.u32 %p2, %r4, %r5; selp.b32 %r7, 0f3F800000, 0, %p2;
      cvt.rn.f32.u32 %f1, %r1; add.f32 %f2, %f1, 0f42000000;
      mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f3, %f4, %f5, %f6}, {%r6, %r8, %r7, %r8},
        {%f1, %f2}, {%r9, %r9, %r9, %r9};
      st.global.b32 [%rd4], %f3;"""
    got = run(body, np.zeros(32, np.float32), threads=32)
    lane = np.arange(32)
    row, column = lane // 4, 2 * (lane % 4)  # of d0; B[k, n] is lane 4n + k % 4, + 32 in its second register
    np.testing.assert_array_equal(got, 4 * column + row % 4 + 32 * (row // 4) + 2)

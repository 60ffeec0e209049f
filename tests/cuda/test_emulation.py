"""The emulation of CUDA on the CPU: what it computes, and that it finds what breaks CUDA's rules."""

from __future__ import annotations

import re

import pytest

from ..cuda_emulation import build
from . import replaying

pytestmark = pytest.mark.skipif(not build.available(), reason="no compiler")

RIGHT = ("shuffles", "votes", "copies", "fills", "last block")
SAFE = ("no race", "no race in a warp", "no race of blocks")
REFUSED = [
    ("copies without a wait", r"thread \(\d+, 0, 0\) ends with asynchronous copies that it never waited for"),
    (
        "divergent barrier",
        r"rules\.cpp:\d+: block .* waits at a barrier that a thread of the block has left out",
    ),
    (
        "different barriers",
        r"rules\.cpp:\d+: .* waits at a barrier while another thread waits at .*rules\.cpp:\d+",
    ),
    ("not in mask", "is not in the mask of its own warp operation"),
    ("lane elsewhere", "waits in a warp operation for a lane that is elsewhere"),
    ("ended lane", "names a lane that has ended|waits in a warp operation for a lane that is elsewhere"),
    ("misaligned", "an asynchronous copy at an address that is no multiple of 16"),
    ("too much shared", "more shared memory than a block may have"),
    ("too many threads", "invalid launch: 1 to 1024 threads"),
    ("empty grid", "invalid launch: an empty grid"),
]
RACES = ("race", "race in a warp", "race of blocks")


def run(variant: str, name: str, seed: int = 0):
    program = replaying.or_skip(variant, lambda: build.rules(variant))
    return replaying.sanitized(program, name, str(seed))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", RIGHT)
def test_results(name, seed):
    done = run("plain", name, seed)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "message"), REFUSED, ids=[name for name, _ in REFUSED])
def test_broken_rules_are_found(name, message, seed):
    done = run("plain", name, seed)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RIGHT, *SAFE])
@pytest.mark.parametrize("variant", ["address", "thread"])
def test_sanitizers_find_nothing_where_nothing_is(variant, name):
    done = run(variant, name, 1)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_races_are_found(name):
    done = run("thread", name, 1)
    assert done.returncode != 0
    assert "data race" in done.stderr


@pytest.mark.slow
def test_the_end_of_shared_memory_is_watched():
    done = run("address", "past the end")
    assert done.returncode != 0
    assert "use-after-poison" in done.stderr

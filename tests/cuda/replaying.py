"""Kernels under a sanitizer: calls recorded in this process, repeated by a program of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ..conftest import emulated_kernels
from ..cuda_emulation import build
from ..cuda_emulation.recording import recording
from .cases import SETTINGS, errors


def record(names: Iterable[str], path: Path) -> Path:
    """The calls of these settings, whose results are right."""
    for name in names:
        with emulated_kernels(0), recording(path):
            from fused_rank.cuda import ops

            wrong = errors(SETTINGS[name], ops)
        assert not wrong, f"{name}: {wrong}"
    return path


def or_skip(variant: str, make: Callable[[], Path]) -> Path:
    """What is built, unless the compiler has no such sanitizer."""
    try:
        return make()
    except build.CannotBuild as reason:
        if "cannot find" in str(reason) or "unrecognized argument to '-fsanitize" in str(reason):
            pytest.skip(f"{build.compiler()[1]} has no {variant} sanitizer")
        raise


def program(variant: str, csrc: Path = build.CSRC, edited: frozenset[str] = frozenset()) -> Path:
    return or_skip(variant, lambda: build.replay(variant, csrc, edited))


def replay(executable: Path, recorded: Path, seed: int) -> subprocess.CompletedProcess[str]:
    return sanitized(executable, str(recorded), str(seed))


def sanitized(executable: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = {
        "ASAN_OPTIONS": "detect_leaks=0",  # what a kernel that was given up leaves behind is no finding
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1",
    }

    def attempt(*before: str) -> subprocess.CompletedProcess[str]:
        command = [*before, str(executable), *arguments]
        environment = {**os.environ, **options}
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)

    done = attempt()
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        # An older ThreadSanitizer does not know the wide address randomisation of newer kernels.
        done = attempt("setarch", "-R")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this ThreadSanitizer cannot run on this kernel")
    return done

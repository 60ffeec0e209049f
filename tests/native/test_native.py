"""The C++ engine alone: under sanitizers, on one thread against three, and its small pieces."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from .build import COMMON, CSRC, HERE, program
from .build import run as run_compiler

ENGINE = sorted(CSRC.glob("cpu/*.cpp"))
ISA = {
    "base": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
}
# GCC 12 warns inside its own AVX-512 headers, wrongly.
ISA["avx512"] = [
    *ISA["avx2"],
    "-mavx512f",
    "-mavx512dq",
    "-mavx512bw",
    "-mavx512vl",
    "-Wno-maybe-uninitialized",
]
# Stopped at the first finding. Calls in the place of inlined checks, and none of the checks on each access that
# AddressSanitizer repeats, compile in a fifth of the time.
ADDRESS = [
    "-fsanitize=address",
    "-fno-sanitize-address-use-after-scope",
    "--param=asan-instrumentation-with-call-threshold=0",
]
UNDEFINED = [
    "-fsanitize=undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-fno-sanitize=null,alignment,object-size,vptr,nonnull-attribute,returns-nonnull-attribute",
]
SANITIZED = {
    "address": [*UNDEFINED, *ADDRESS],
    "address-avx2": [*ADDRESS, *ISA["avx2"]],
    "thread": ["-fsanitize=thread"],
}


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        pytest.skip("needs g++")
    return found


def needs_isa(isa: str) -> None:
    served = {"AVX2": ("base", "avx2"), "AVX512": ("base", "avx2", "avx512")}
    if platform.machine().lower() not in ("x86_64", "amd64"):
        served = {}
    capability = torch.backends.cpu.get_cpu_capability()
    if isa not in served.get(capability, ("base",)):
        pytest.skip(f"this processor has no {isa}")


@pytest.fixture(scope="module")
def harness(compiler: str, pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """The harness under a sanitizer, by the sanitizer's name."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("native")

    def build(sanitizer: str) -> Path:
        needs_isa("avx2" if "avx2" in sanitizer else "base")
        probe = folder / "probe.cpp"
        probe.write_text("int main() {}\n")
        flags = SANITIZED[sanitizer]
        try:
            run_compiler([compiler, *flags, str(probe), "-o", str(folder / "probe")])
        except RuntimeError as error:
            pytest.skip(f"{compiler} has no {sanitizer} sanitizer: {error}")
        debug = ["-O1", "-g1", "-DFUSED_RANK_POISON", *flags]
        return program(compiler, "harness", [*ENGINE, HERE / "harness.cpp"], debug, folder / sanitizer)

    return build


def run(executable: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    def attempt(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)

    done = attempt(str(executable), *arguments)
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        # An older ThreadSanitizer does not know the wide address randomisation of newer kernels.
        done = attempt("setarch", "-R", str(executable), *arguments)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this ThreadSanitizer cannot run on this kernel")
    return done


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZED)
def test_engine_is_clean(harness: Callable[[str], Path], sanitizer: str) -> None:
    done = run(harness(sanitizer), "1", "0")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sanitizer", "fault", "message"),
    [
        ("address", "out_of_bounds", "heap-buffer-overflow"),
        ("address", "bad_bool", "not a valid value for type 'bool'"),
        ("address", "wrong_number", "FAILED sums as by definition"),
        ("thread", "race", "data race"),
    ],
)
def test_seeded_fault_is_noticed(
    harness: Callable[[str], Path], sanitizer: str, fault: str, message: str
) -> None:
    """A run that finds nothing means something only if it would have found this."""
    done = run(harness(sanitizer), "1", "0", fault)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISA)
def test_units(compiler: str, pytestconfig: pytest.Config, isa: str) -> None:
    needs_isa(isa)
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("native") / f"units-{isa}"
    engine = [CSRC / "cpu" / f"{name}.cpp" for name in ("order", "operand", "source")]
    flags = ["-O2", "-DFUSED_RANK_POISON", *ISA[isa]]
    done = run(program(compiler, "units", [HERE / "units.cpp", *engine], flags, folder))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_compiles_for_aarch64() -> None:
    cross = shutil.which("aarch64-linux-gnu-g++")
    if cross is None:
        pytest.skip("needs aarch64-linux-gnu-g++")
    for source in ENGINE:
        run_compiler([cross, *COMMON, "-O1", "-fsyntax-only", "-Werror", str(source)])

"""Installs a wheel into fresh environments, one for each Python and torch asked for, and smoke-tests it there.

With --load-only no torch is installed: the wheel is, and its shared objects are loaded by that Python, every symbol
resolved, beside the libtorch of the Python that runs this script (libtorch itself knows nothing of Python).
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMOKE = Path(__file__).resolve().parent / "smoke.py"
ISAS = [(), ("env", "FUSED_RANK_ISA=base")]  # the one for this processor, and the one that any can run
LOAD = """
import ctypes, os, pathlib, platform, sys, sysconfig
for name in ("libc10.so", "libtorch_cpu.so"):
    ctypes.CDLL(os.path.join(sys.argv[1], name), mode=ctypes.RTLD_GLOBAL)
package = pathlib.Path(sysconfig.get_path("platlib"), "fused_rank")
# Every shared object registers the same operators, so a process can hold one of them.
objects = sorted(p for p in package.glob("_C_*.so") if sys.argv[2] in p.name)
assert len(objects) == 1, objects
ctypes.CDLL(str(objects[0]), mode=os.RTLD_NOW)
print("Python", platform.python_version(), "loaded", objects[0].name)
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def fresh_environment(python: str, folder: Path) -> Path:
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def smoke(python: str, torch: str, wheel: Path, options: list[str]) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        interpreter = fresh_environment(python, Path(scratch, "venv"))
        run(interpreter, "-m", "pip", "install", "--quiet", torch, wheel)
        return "\n".join(run(*prefix, interpreter, SMOKE, *options).splitlines()[-1] for prefix in ISAS)


def load(python: str, wheel: Path) -> str:
    import torch

    libraries = Path(torch.__file__).parent / "lib"
    with tempfile.TemporaryDirectory() as scratch:
        interpreter = fresh_environment(python, Path(scratch, "venv"))
        run(interpreter, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
        return "\n".join(run(interpreter, "-c", LOAD, libraries, isa) for isa in ("base", "avx2", "avx512"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", action="append", help="interpreter (repeatable; default: this one)")
    parser.add_argument(
        "--torch", action="append", help="requirement, as for pip (repeatable; default: torch)"
    )
    parser.add_argument(
        "--backend", default="cpp", help="the backend that has to serve (eager for a pure-Python wheel)"
    )
    parser.add_argument(
        "--load-only", action="store_true", help="install without torch and load the shared objects"
    )
    options = parser.parse_args()
    wheel: Path = options.wheel.resolve()
    failed = False
    for python, torch in itertools.product(options.python or [sys.executable], options.torch or ["torch"]):
        began = time.perf_counter()
        try:
            line = (
                load(python, wheel)
                if options.load_only
                else smoke(python, torch, wheel, ["--backend", options.backend])
            )
        except RuntimeError as error:
            failed, line = True, f"FAILED {python} {torch}\n{error}"
        print(f"{line} ({time.perf_counter() - began:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())

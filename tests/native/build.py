"""Compiles C++ harnesses, object by object, and keeps what has not changed since."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
HEADERS = [*sorted(CSRC.glob("cpu/*.h")), *sorted(CSRC.glob("terms/*.h")), *sorted(HERE.glob("*.h"))]
COMMON = [
    "-std=c++20",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    f"-I{CSRC}",
]


def program(compiler: str, name: str, sources: list[Path], flags: list[str], folder: Path) -> Path:
    """The program made of `sources`. One is built at a time, whatever number of processes run tests."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build(compiler, name, sources, flags, folder)


def build(compiler: str, name: str, sources: list[Path], flags: list[str], folder: Path) -> Path:
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    common = hashlib.sha256(version + repr([*COMMON, *flags]).encode())
    for header in HEADERS:
        common.update(header.read_bytes())

    def compiled(source: Path) -> Path:
        key = common.copy()
        key.update(source.read_bytes())
        made = folder / f"{source.stem}-{key.hexdigest()[:16]}.o"
        if not made.exists():
            for stale in folder.glob(f"{source.stem}-*.o"):
                stale.unlink()
            partial = made.with_suffix(".partial")
            run([compiler, *COMMON, *flags, "-c", str(source), "-o", str(partial)])
            partial.rename(made)
        return made

    # The largest come first, so that the cores end together.
    sources = sorted(sources, key=lambda path: path.stem not in ("pair", "triplet"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    executable = folder / name
    if not executable.exists() or executable.stat().st_mtime < max(o.stat().st_mtime for o in objects):
        run([compiler, *flags, *map(str, objects), "-pthread", "-o", str(executable)])
    return executable


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")

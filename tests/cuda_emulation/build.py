"""Compiles csrc/cuda/ for the CPU, object by object, and keeps what has not changed since.

An object is kept by a hash of its source, of every file of this project that it includes, and of its flags. One process
builds at a time, whatever number of them run tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"
FOLDER = ROOT / "build" / "cuda_emulation"
INCLUDED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)

# No multiply-add that the source does not name: every build gives the same bits.
COMMON = (
    "-std=c++20",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-Wall",
    "-Wextra",
)
# As nvcc does: csrc/terms/ sees that it is CUDA, and CUDA's names are there without an include.
KERNEL = (
    *("-x", "c++", "-DFUSED_RANK_CUDA_ON_CPU", "-D__CUDACC__"),
    *("-include", "cuda_on_cpu.h", "-Wno-unknown-pragmas"),
)
# Calls in the place of inlined checks compile in a fifth of the time.
ADDRESS = (
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-fno-sanitize=null,object-size,vptr,nonnull-attribute,returns-nonnull-attribute",
    "-fno-sanitize-address-use-after-scope",
    "--param=asan-instrumentation-with-call-threshold=0",
)
FLAGS = {
    "plain": ("-O2", "-g1"),
    "address": ("-O1", "-g1", *ADDRESS),
    "thread": ("-O1", "-g1", "-fsanitize=thread"),
}
NAME = "fused_rank_cuda_emulated"
MODULE = FOLDER / f"{NAME}.so"


class CannotBuild(Exception):
    """Why, in one sentence."""


@dataclass(frozen=True)
class Source:
    path: Path
    flags: tuple[str, ...]
    csrc: Path = CSRC
    includes: tuple[Path, ...] = ()  # of others

    @property
    def folders(self) -> tuple[Path, ...]:
        return (HERE, self.csrc / "cuda", self.csrc)


def _command() -> str:
    return os.environ.get("CXX") or "g++"


@cache
def compiler() -> tuple[str, str]:
    """Its path and version."""
    found = shutil.which(_command())
    if found is None:
        raise CannotBuild(f"there is no {_command()}")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return found, version.splitlines()[0]


@cache
def instruction_set() -> tuple[str, ...]:
    """Hardware multiply-adds where this processor has them: calls in their place are several times slower."""
    information = Path("/proc/cpuinfo")
    has = information.exists() and {"fma", "avx2"} <= set(information.read_text().split())
    return ("-mavx2", "-mfma") if has else ()


def kernels(variant: str, csrc: Path = CSRC) -> list[Source]:
    paths = sorted([*csrc.glob("cuda/*.cu"), *csrc.glob("cuda/*.cpp")])
    return [Source(path, (*KERNEL, *FLAGS[variant]), csrc) for path in paths]


def emulator() -> list[Source]:
    """Never under a sanitizer: it changes stacks beneath them."""
    names = ("block", "block_memory", "context_switch", "grid")
    return [Source(HERE / f"{name}.cpp", ("-O2", "-g1")) for name in names]


def available() -> bool:
    """Is there a compiler?"""
    return shutil.which(_command()) is not None


@cache
def module() -> Path:
    """The kernels as a Python module, at `MODULE`."""
    import pybind11

    headers = (Path(pybind11.get_include()), Path(sysconfig.get_paths()["include"]))
    flags = ("-O1", "-DFUSED_RANK_CUDA_ON_CPU", "-fvisibility=hidden")
    binding = Source(HERE / "binding.cpp", flags, includes=headers)
    made = linked(NAME, ".so", [*kernels("plain"), *emulator(), binding], ("-shared", "-pthread"))
    with locked():
        if not MODULE.exists() or not MODULE.samefile(made):
            partial = MODULE.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            partial.hardlink_to(made)
            partial.replace(MODULE)
    return MODULE


def replay(variant: str, csrc: Path = CSRC, edited: frozenset[str] = frozenset()) -> Path:
    """The program that repeats recorded calls (`recording.py`), its kernels under a sanitizer.

    `edited`: files of kernels that come from another `csrc`. They are linked first, and so are their inline functions.
    """
    main = Source(HERE / "replay.cpp", ("-O1", "-g1", "-DFUSED_RANK_CUDA_ON_CPU", *sanitizers(variant)))
    others = [source for source in kernels(variant) if source.path.name not in edited]
    changed = [source for source in kernels(variant, csrc) if source.path.name in edited]
    return linked(f"replay-{variant}", "", [*changed, *others, *emulator(), main], sanitizers(variant))


def rules(variant: str) -> Path:
    """The program of small kernels that keep or break a rule."""
    small = Source(HERE / "rules.cpp", (*KERNEL, *FLAGS[variant]))
    return linked(f"rules-{variant}", "", [small, *emulator()], sanitizers(variant))


def sanitizers(variant: str) -> tuple[str, ...]:
    """Flags that the linker needs too."""
    return ("-pthread", *(flag for flag in FLAGS[variant] if flag.startswith("-fsanitize=")))


def linked(name: str, suffix: str, sources: list[Source], flags: tuple[str, ...]) -> Path:
    """Named by all that it is made of, so that what is there is right."""
    objects = [object_of(source) for source in sources]
    digest = hashlib.sha256(repr([list(map(str, objects)), flags]).encode()).hexdigest()[:16]
    made = FOLDER / f"{name}.{digest}{suffix}"
    if not made.exists():
        with locked():
            forget_old_files()
            compile_all(sources)
            partial = made.with_name(made.name + ".partial")
            run([compiler()[0], *map(str, objects), *flags, "-o", str(partial)])
            partial.rename(made)
    os.utime(made)
    return made


@contextmanager
def locked() -> Iterator[None]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_old_files(days: float = 3) -> None:
    for path in (*FOLDER.glob("*.*"), *FOLDER.glob("objects/*")):
        if path != MODULE and path.stat().st_mtime < time.time() - 86400 * days:
            path.unlink()


def compile_all(sources: list[Source]) -> None:
    # the largest begin first, so that the cores end together
    largest_first = sorted(sources, key=lambda source: -source.path.stat().st_size)
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        list(pool.map(compiled, largest_first))


def compiled(source: Source) -> Path:
    made = object_of(source)
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        partial = made.with_suffix(".partial")
        includes = [f"-I{folder}" for folder in source.folders]
        includes += [f"-isystem{folder}" for folder in source.includes]
        names = [f"-ffile-prefix-map={source.csrc}=csrc", f"-ffile-prefix-map={ROOT}/="]
        command = [compiler()[0], *flags_of(source), *includes, *names]
        run([*command, "-c", str(source.path), "-o", str(partial)])
        partial.rename(made)
    os.utime(made)
    return made


def flags_of(source: Source) -> list[str]:
    return [*COMMON, *instruction_set(), *source.flags]


def object_of(source: Source) -> Path:
    """Where its object is or will be."""
    key = hashlib.sha256(repr([compiler(), flags_of(source)]).encode())
    for path in made_of(source):
        key.update(f"{path.name}\n{path.read_text()}".encode())
    return FOLDER / "objects" / f"{source.path.stem}-{key.hexdigest()[:16]}.o"


def made_of(source: Source) -> list[Path]:
    """The file and those of this project that it includes, directly or not."""
    found: dict[Path, None] = {}
    waiting = [source.path, HERE / "cuda_on_cpu.h"]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in INCLUDED.findall(path.read_text()):
            places = (folder / name for folder in (path.parent, *source.folders))
            if (place := next(filter(Path.is_file, places), None)) is not None:
                waiting.append(place.resolve())
    return sorted(found, key=lambda path: path.name)


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command)}\n{done.stderr}")

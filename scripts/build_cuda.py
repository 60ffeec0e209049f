"""Compiles csrc/cuda/ with nvcc, torch's headers out of its sight; `setup.py` and the tests share what is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# The default: every generation from Ampere on that the compiler knows, and PTX of the newest for those to come.
ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
OLDEST_NVCC = (12, 0)  # C++20
FLAGS = (
    "-std=c++20",
    "-O3",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra",
)
_ARCHITECTURE = re.compile(r"(\d+)\.(\d+[af]?)(\+PTX)?")


class CannotBuild(Exception):
    """Why, in one sentence."""


@dataclass(frozen=True)
class Nvcc:
    """The compiler of a CUDA toolkit."""

    path: Path
    release: tuple[int, int]

    @property
    def home(self) -> Path:
        """The toolkit's folder; `path` may be a script that calls a compiler elsewhere."""
        command = [str(self.path), "--dryrun", "-c", "-x", "cu", os.devnull]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
        top = re.search(r"^#\$ TOP=(.+)$", shown.stdout + shown.stderr, re.M)
        return Path(top[1].strip()).resolve() if top else self.path.resolve().parent.parent

    @property
    def headers(self) -> Path:
        return self._folder("cuda_runtime_api.h", "include", "targets/*/include")

    @property
    def libraries(self) -> Path:
        return self._folder("libcudart_static.a", "lib64", "lib", "targets/*/lib")

    def _folder(self, file: str, *patterns: str) -> Path:
        """The toolkit's folder that has the file."""
        home = self.home
        found = (
            path for pattern in patterns for path in sorted(home.glob(pattern)) if (path / file).is_file()
        )
        folder = next(found, None)
        if folder is None:
            raise CannotBuild(f"the CUDA toolkit in {home} has no {file}")
        return folder

    @property
    def version(self) -> str:
        return ".".join(map(str, self.release))


def find_nvcc() -> Nvcc:
    """The one of $CUDA_HOME or $CUDA_PATH, if set; else on the path, else of /usr/local/cuda."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    places = [str(Path(home, "bin", "nvcc"))] if home else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    found = next(filter(None, map(shutil.which, places)), None)
    if found is None:
        raise CannotBuild(
            f"there is no nvcc in {home}" if home else "no nvcc was found on the path or in /usr/local/cuda"
        )
    try:
        shown = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{found} does not run: {error}") from error
    release = re.search(r"release (\d+)\.(\d+)", shown)
    if release is None:
        raise CannotBuild(f"{found} does not say its release")
    nvcc = Nvcc(Path(found), (int(release[1]), int(release[2])))
    if nvcc.release < OLDEST_NVCC:
        raise CannotBuild(f"{found} is of CUDA {nvcc.version}, 12.0 or later is needed")
    return nvcc


def matching_nvcc(torch_cuda: str | None, torch_version: str) -> Nvcc:
    """The compiler for a torch built with CUDA `torch_cuda`: of the same major release."""
    if torch_cuda is None:
        raise CannotBuild(f"torch {torch_version} is built without CUDA")
    nvcc = find_nvcc()
    if nvcc.release[0] != int(torch_cuda.split(".")[0]):
        raise CannotBuild(
            f"torch {torch_version} is built with CUDA {torch_cuda}, and {nvcc.path} is of CUDA {nvcc.version}"
        )
    return nvcc


def known_architectures(nvcc: Nvcc) -> set[str]:
    """As "9.0"."""
    shown = subprocess.run([nvcc.path, "--list-gpu-arch"], capture_output=True, text=True, timeout=60).stdout
    return {f"{number[:-1]}.{number[-1]}" for number in re.findall(r"compute_(\d+)", shown)}


def architectures(nvcc: Nvcc) -> tuple[str, ...]:
    """What to compile for: $TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX"), else the default."""
    known = known_architectures(nvcc)
    asked = tuple(os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(",", " ").replace(";", " ").split())
    if not asked:
        usual = [name for name in ARCHITECTURES if name in known]
        return (*usual[:-1], f"{usual[-1]}+PTX") if usual else ()
    for name in asked:
        if _ARCHITECTURE.fullmatch(name) is None:
            raise CannotBuild(f"TORCH_CUDA_ARCH_LIST has {name!r}; expected numbers such as 8.0 or 9.0+PTX")
        if name.removesuffix("+PTX").rstrip("af") not in known:
            raise CannotBuild(f"TORCH_CUDA_ARCH_LIST has {name}, which {nvcc.path} does not know")
    return asked


def code_flags(names: Sequence[str]) -> list[str]:
    """nvcc's -gencode for each."""
    flags = []
    for name in names:
        number = name.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if name.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def compile_kernels(nvcc: Nvcc, names: Sequence[str], sources: Sequence[Path], folder: Path) -> list[Path]:
    """An object of each source; those that are newer than all they were made of stay."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = [*FLAGS, *code_flags(names)]

    def compiled(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        command = [str(nvcc.path), *flags, "-c", str(source), "-o", str(made), "-MD", "-MF", f"{made}.d"]
        note = Path(f"{made}.command")
        if _is_current(made, note, command):
            return made
        done = subprocess.run(command, capture_output=True, text=True)
        print(done.stdout + done.stderr, end="", flush=True)
        if done.returncode != 0:
            raise CannotBuild(f"compiling {source.name} with {nvcc.path} failed; its own message is above")
        note.write_text(" ".join(command))
        return made

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        return list(pool.map(compiled, sources))


def _is_current(made: Path, note: Path, command: list[str]) -> bool:
    if not (made.exists() and note.exists() and note.read_text() == " ".join(command)):
        return False
    read = Path(f"{made}.d").read_text().split(":", 1)[1].replace("\\\n", " ").split()
    return all(Path(name).exists() and Path(name).stat().st_mtime < made.stat().st_mtime for name in read)

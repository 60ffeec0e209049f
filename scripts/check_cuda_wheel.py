"""Builds the package against a CUDA build of torch and checks what comes out, without a GPU.

`check_cuda_wheel.py VENV/bin/python`: the environment of that Python has torch for CUDA, setuptools and ninja; nvcc is
found as `setup.py` finds it. The wheel has to pass the audit and to name its CUDA; its kernels have to load into that
torch, every symbol resolved, only when asked for, and to be registered for CUDA tensors. Sizes are printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from audit_wheel import problems_of_wheel

ROOT = Path(__file__).resolve().parent.parent
MODULE = "fused_rank/_C_cuda.abi3.so"
# Run by the CUDA torch's Python, in the folder of the unpacked wheel.
PROBE = """
import ctypes, os, pathlib, sys
import torch
import fused_rank
from fused_rank.ops import cuda_library
from fused_rank.ops.schemas import SCHEMAS

def mapped():
    return "_C_cuda" in pathlib.Path("/proc/self/maps").read_text()

assert pathlib.Path(fused_rank.__file__).is_relative_to(os.getcwd()), fused_rank.__file__
assert not mapped(), "importing fused_rank loaded the kernels"
assert fused_rank.backends()["ranked_list_loss"]["cpp"] is None, fused_rank.backends()["ranked_list_loss"]["cpp"]
fused_rank.RankedListLoss()(torch.randn(8, 4), torch.arange(8) // 2)
assert not mapped(), "a CPU tensor loaded the kernels"
reason = cuda_library.load()
assert reason is None, reason
assert mapped()
ctypes.CDLL(str(cuda_library.MODULE), mode=os.RTLD_NOW)
has = torch._C._dispatch_has_kernel_for_dispatch_key
operators = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("fused_rank_cuda_kernels::")]
launched = [name for name in operators if has(name, "CUDA")]
others = [name for name in operators if name not in launched]
assert len(launched) > 6, operators
assert all(has(name, "CompositeExplicitAutograd") for name in others), others
assert all(has(f"fused_rank_cuda::{name}", "CUDA") for name in SCHEMAS)
ranked_list = [2.0, 1.2, 0.4, 10.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
layout = torch.ops.fused_rank_cuda_kernels.term_layout([4], ranked_list, "ranked_list")
assert layout[:3] == [1, 6, 0], layout
try:
    torch.ops.fused_rank_cuda_kernels.term_layout([4], [2.0], "no such term")
except ValueError as error:
    assert "no such term" in str(error), error
else:
    raise AssertionError("an unknown term has a layout")
print(cuda_library.runtime_info())
print(f"torch {torch.__version__}: {len(launched)} entry points registered for CUDA, {len(others)} for the host")
"""


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def copy_sources(target: Path) -> None:
    """A copy of what a build reads, whose unchanged files keep their times: a second build is short."""
    for top in (
        "csrc",
        "fused_rank",
        "scripts",
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "MANIFEST.in",
    ):
        paths = ROOT.joinpath(top).rglob("*") if ROOT.joinpath(top).is_dir() else [ROOT / top]
        for path in paths:
            copy = target / path.relative_to(ROOT)
            if not path.is_file() or path.suffix in (".so", ".pyc"):
                continue
            if not copy.exists() or copy.read_bytes() != path.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)


def build(python: Path, folder: Path, architectures: str | None) -> Path:
    copy_sources(folder / "source")
    shutil.rmtree(folder / "dist", ignore_errors=True)
    listed = {"TORCH_CUDA_ARCH_LIST": architectures} if architectures else {}
    command = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder / "dist", ".")
    run(python, *command, folder=folder / "source", FUSED_RANK_CUDA="1", **listed)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def report(wheel: Path, unpacked: Path) -> None:
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB")
    for path in sorted(unpacked.glob("fused_rank/*.so")):
        print(f"  {path.name}: {path.stat().st_size / 2**20:.1f} MiB")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "python", type=Path, help="the interpreter of an environment with a CUDA build of torch"
    )
    parser.add_argument("--architectures", help="as TORCH_CUDA_ARCH_LIST; default: what setup.py builds for")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "cuda_wheel", help="where to build")
    options = parser.parse_args(arguments)
    python: Path = options.python.absolute()
    torch_cuda = run(python, "-c", "import torch; print(torch.version.cuda or '')", folder=ROOT.parent)
    if not torch_cuda:
        raise SystemExit(f"the torch of {python} is built without CUDA")
    wheel = build(python, options.folder, options.architectures)
    unpacked = options.folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    zipfile.ZipFile(wheel).extractall(unpacked)
    report(wheel, unpacked)
    problems = problems_of_wheel(wheel)
    if f"+cu{torch_cuda.split('.')[0]}" not in wheel.name:
        problems.append(f"{wheel.name} does not name CUDA {torch_cuda}")
    if not (unpacked / MODULE).is_file():
        problems.append(f"{MODULE} is missing")
    print("\n".join(problems) or "audit: abi3, no unstable symbol of libtorch, CUDA runtime inside")
    if problems:
        return 1
    print(run(python, "-c", PROBE, folder=unpacked))
    return 0


if __name__ == "__main__":
    sys.exit(main())

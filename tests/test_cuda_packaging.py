"""Building csrc/cuda/ on request, and finding its module, on machines that have neither nvcc nor a CUDA torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fused_rank.ops import cuda_library

from .test_packaging import checked, python

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import build_cuda  # noqa: E402

# setup.py in an environment whose torch says that it was built with CUDA 13.0
SETUP = """
import runpy, sys
import torch.version
torch.version.cuda = "13.0"
sys.argv = ["setup.py", "--version"]
runpy.run_path("setup.py", run_name="__main__")
"""


def setup(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FUSED_RANK_", "TORCH_CUDA_", "CUDA_"))}
    return subprocess.run(
        [sys.executable, "-c", SETUP],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**kept, "CUDA_HOME": str(tmp_path), **variables},
    )


def fake_nvcc(folder: Path, release: str, architectures: str = "compute_80 compute_90 compute_120") -> None:
    nvcc = folder / "bin" / "nvcc"
    nvcc.parent.mkdir()
    listed = "\\n".join(architectures.split())
    nvcc.write_text(
        f'#!/bin/sh\ncase "$1" in\n--version) echo "Cuda compilation tools, release {release}, V{release}.1";;\n'
        f'--list-gpu-arch) printf "{listed}\\n";;\nesac\n'
    )
    nvcc.chmod(0o755)


needs_compiler = pytest.mark.skipif(sys.platform == "win32", reason="compiles with GCC or Clang only")


@needs_compiler
def test_asking_for_kernels_without_nvcc_is_one_sentence(tmp_path: Path) -> None:
    run = setup(tmp_path, FUSED_RANK_CUDA="1")
    assert run.returncode != 0
    assert run.stderr.strip().splitlines() == [
        f"fused_rank: FUSED_RANK_CUDA=1 asks for the CUDA kernels, but there is no nvcc in {tmp_path}."
    ]


def test_no_nvcc_anywhere_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build_cuda.shutil, "which", lambda name: None)
    with pytest.raises(
        build_cuda.CannotBuild, match=r"^no nvcc was found on the path or in /usr/local/cuda$"
    ):
        build_cuda.matching_nvcc("13.0", "2.14.1+cu130")


@needs_compiler
def test_asking_for_kernels_with_another_nvcc_is_one_sentence(tmp_path: Path) -> None:
    fake_nvcc(tmp_path, "12.8")
    run = setup(tmp_path, FUSED_RANK_CUDA="1")
    assert run.returncode != 0
    assert run.stderr.strip().splitlines() == [
        f"fused_rank: FUSED_RANK_CUDA=1 asks for the CUDA kernels, but torch {torch.__version__} is built with "
        f"CUDA 13.0, and {tmp_path}/bin/nvcc is of CUDA 12.8."
    ]


@needs_compiler
@pytest.mark.parametrize("release", [None, "12.8"], ids=["no nvcc", "another nvcc"])
@pytest.mark.parametrize("asked", ["", "0"])
def test_without_its_nvcc_nothing_changes_unless_asked_for(
    tmp_path: Path, asked: str, release: str | None
) -> None:
    if release:
        fake_nvcc(tmp_path, release)
    run = setup(tmp_path, FUSED_RANK_CUDA=asked)
    assert run.returncode == 0, run.stderr
    assert "+cu" not in run.stdout
    assert "fused_rank" not in run.stderr


@needs_compiler
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_a_cpu_torch_cannot_have_kernels() -> None:
    command = [sys.executable, "setup.py", "--version"]
    environment = {**os.environ, "FUSED_RANK_CUDA": "1"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment)
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1].endswith(f"torch {torch.__version__} is built without CUDA.")
    assert "Traceback" not in run.stderr


@needs_compiler
@pytest.mark.parametrize("list_of", ["Ampere", "3.5"])
def test_an_unknown_architecture_is_one_sentence(tmp_path: Path, list_of: str) -> None:
    fake_nvcc(tmp_path, "13.0")
    run = setup(tmp_path, TORCH_CUDA_ARCH_LIST=list_of)
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert list_of in run.stderr


@pytest.mark.parametrize("release", ["11.8", "12.6"])
def test_nvcc_must_be_new_and_of_the_torch_s_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    fake_nvcc(tmp_path, release)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(build_cuda.CannotBuild, match=release):
        build_cuda.matching_nvcc("13.0", "2.14.1+cu130")


def test_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those asked for, else the usual ones that the compiler knows, with PTX of the newest."""
    fake_nvcc(tmp_path, "13.0")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    nvcc = build_cuda.matching_nvcc("13.0", "2.14.1+cu130")
    assert build_cuda.architectures(nvcc) == ("8.0", "9.0", "12.0+PTX")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0a 12.0+PTX")
    asked = build_cuda.architectures(nvcc)
    assert asked == ("8.0", "9.0a", "12.0+PTX")
    assert build_cuda.code_flags(asked) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]


def test_the_toolkit_is_found_behind_a_script_that_calls_nvcc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit, wrapper = tmp_path / "toolkit", tmp_path / "wrapper"
    for file in ("targets/here/include/cuda_runtime_api.h", "lib64/libcudart_static.a"):
        (toolkit / file).parent.mkdir(parents=True)
        (toolkit / file).touch()
    wrapper.mkdir()
    fake_nvcc(wrapper, "13.0")
    script = wrapper / "bin" / "nvcc"
    script.write_text(script.read_text().replace("esac", f'--dryrun) echo "#$ TOP={toolkit}";;\nesac'))
    monkeypatch.setenv("CUDA_HOME", str(wrapper))
    nvcc = build_cuda.find_nvcc()
    assert (nvcc.headers, nvcc.libraries) == (toolkit / "targets/here/include", toolkit / "lib64")
    (toolkit / "lib64/libcudart_static.a").unlink()
    with pytest.raises(build_cuda.CannotBuild, match=r"has no libcudart_static\.a"):
        _ = nvcc.libraries


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        ("8.0", (8, 0), True),
        ("8.0", (8, 6), True),
        ("8.6", (8, 0), False),
        ("8.0", (9, 0), False),
        ("8.0+PTX", (9, 0), True),
        ("9.0a", (9, 0), True),
        ("9.0a", (10, 0), False),
        ("12.0+PTX", (10, 0), False),
    ],
)
def test_which_gpus_code_runs_on(built: str, capability: tuple[int, int], runs: bool) -> None:
    assert cuda_library._runs(built, capability) == runs


MODULE_THERE = """
import pathlib, sys, torch
from fused_rank.ops import cuda_library
cuda_library.EMULATED = None
cuda_library.MODULE = pathlib.Path(sys.argv[1])
torch.version.cuda = "13.0"
print(cuda_library.register() or "may serve")
print(cuda_library.load())
"""


def test_a_module_that_does_not_load_gives_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "_C_cuda.abi3.so"
    assert "no _C_cuda.abi3.so in" in checked("-c", MODULE_THERE, str(broken))
    broken.write_bytes(b"not a shared object")
    can, does = checked("-c", MODULE_THERE, str(broken)).splitlines()
    assert can == "may serve"
    assert does.startswith("_C_cuda.abi3.so does not load: ")


def test_info_says_what_the_kernels_are_or_why_there_are_none() -> None:
    (line,) = (line for line in checked("-m", "fused_rank", "info").splitlines() if line.startswith("cuda  "))
    assert "_C_cuda.abi3.so" in line


def test_importing_does_not_load_the_kernels() -> None:
    code = "import sys, fused_rank; print([m for m in sys.modules if m.startswith('fused_rank.cuda')])"
    assert checked("-c", code) == "[]\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="serves here, perhaps")
def test_asking_for_cuda_without_a_gpu_is_an_error_with_the_reason() -> None:
    run = python("-c", "import fused_rank; fused_rank.use_backend('cuda')")
    assert run.returncode != 0
    assert "RuntimeError: backend 'cuda' cannot serve: " in run.stderr

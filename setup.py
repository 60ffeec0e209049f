"""Compiles csrc/ once per instruction set; `pyproject.toml` says the rest.

Every instruction set gets the same sources in a shared object of its own; `fused_rank.ops.library` loads one. Where
torch is a CUDA build and its nvcc is at hand, csrc/cuda/ becomes one more, which only CUDA tensors load.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
sys.path.insert(0, str(ROOT / "scripts"))
from build_backend import accepts, compiler, reason_not_to_compile, torch_paths  # noqa: E402
from build_cuda import CannotBuild, Nvcc, architectures, compile_kernels, matching_nvcc  # noqa: E402

COMPILE = [
    "-std=c++20",
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",  # 2.10: the oldest stable ABI with all that the engine calls
]
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi2"]
# GCC 12 warns inside its own AVX-512 headers, wrongly.
AVX512 = [
    *AVX2,
    "-mavx512f",
    "-mavx512dq",
    "-mavx512bw",
    "-mavx512vl",
    "-mprefer-vector-width=512",
    "-Wno-maybe-uninitialized",
]

LEFT_OUT = (
    "warning: fused_rank: installing without the compiled extension, because {reason}: every loss works, but "
    "slower, through chunked PyTorch; install again with a C++20 compiler (GCC 12+, Clang 15+) to get it."
)
NO_TORCH = (
    "fused_rank: compiling the extension needs torch>=2.10 in this environment: install it first, drop "
    "--no-build-isolation, or set FUSED_RANK_NO_EXTENSION=1 to install without the extension."
)
FAILED = (
    "fused_rank: compiling {name} with {cxx} failed; the compiler's own message is above (pip shows it with "
    "-v). Set CXX to another compiler (GCC 12+, Clang 15+), MAX_JOBS=1 if memory ran out, or "
    "FUSED_RANK_NO_EXTENSION=1 to install without the extension."
)
NO_CUDA = "fused_rank: FUSED_RANK_CUDA=1 asks for the CUDA kernels, but {reason}."


def instruction_sets() -> dict[str, list[str]]:
    """Name and compiler flags of each shared object to build on this machine."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {"base": []}
    known: dict[str, list[str]] = {"base": [], "avx2": AVX2, "avx512": AVX512}
    return {name: flags for name, flags in known.items() if accepts(compiler() or "", flags)}


def sources() -> list[str]:
    folders = (sorted(ROOT.glob(f"csrc/{folder}/*.cpp")) for folder in ("ops", "cpu"))
    paths = [ROOT / "csrc" / "registration.cpp", *(path for folder in folders for path in folder)]
    return [path.relative_to(ROOT).as_posix() for path in paths]


def cuda_sources() -> list[str]:
    paths = [ROOT / "csrc" / "cuda_module" / "launcher.cpp", *sorted(ROOT.glob("csrc/cuda/*.cpp"))]
    return [path.relative_to(ROOT).as_posix() for path in paths]


def cuda_compiler(torch_version: Any) -> Nvcc | None:
    """The nvcc to compile csrc/cuda/ with, or None to leave it out."""
    asked = os.environ.get("FUSED_RANK_CUDA", "")
    if asked == "0":
        return None
    try:
        return matching_nvcc(torch_version.cuda, torch_version.__version__)
    except CannotBuild as reason:
        if asked:
            raise SystemExit(NO_CUDA.format(reason=reason)) from None
        return None


class NeedsTorch(build_ext):
    """Stands in where there is no torch: metadata and source distributions need none, compiling does."""

    def run(self) -> None:
        raise SystemExit(NO_TORCH)


def extension_options() -> dict[str, Any]:
    """The arguments of setup() that compile the extension, or none of them for a pure-Python package."""
    reason = reason_not_to_compile()
    if reason:
        if os.environ.get("FUSED_RANK_CUDA", "0") not in ("", "0"):
            raise SystemExit(NO_CUDA.format(reason=reason))
        print(LEFT_OUT.format(reason=reason), file=sys.stderr)
        return {}
    os.environ["CXX"] = compiler() or ""
    if not torch_paths():
        return {
            "ext_modules": [Extension("fused_rank._C_base", sources())],
            "cmdclass": {"build_ext": NeedsTorch},
        }
    sys.path.extend(path for path in torch_paths() if path not in sys.path)
    from torch import version as torch_version

    nvcc = cuda_compiler(torch_version)  # first: the import below has remarks of its own where no GPU is
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

    class BuildPerInstructionSet(BuildExtension):
        build_temp: str

        def build_extension(self, extension: Any) -> None:
            # The extensions share their sources, so each needs a folder of its own for the objects.
            shared, self.build_temp = self.build_temp, os.path.join(self.build_temp, extension.name)
            try:
                if nvcc is not None and extension.name == "fused_rank._C_cuda":
                    kernels = sorted(ROOT.glob("csrc/cuda/*.cu"))
                    made = compile_kernels(
                        nvcc, architectures(nvcc), kernels, Path(self.build_temp, "kernels")
                    )
                    extension.extra_objects = [str(path) for path in made]
                super().build_extension(extension)
            except CannotBuild as error:
                raise SystemExit(
                    f"fused_rank: {error}; FUSED_RANK_CUDA=0 installs without the CUDA kernels."
                ) from None
            except Exception as error:
                raise SystemExit(FAILED.format(name=extension.name, cxx=os.environ["CXX"])) from error
            finally:
                self.build_temp = shared

    def extension(name: str, files: list[str], flags: list[str]) -> Any:
        built = CppExtension(
            f"fused_rank._C_{name}",
            files,
            depends=[path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("csrc/**/*.h"))],
            extra_compile_args=[
                *COMPILE,
                *flags,
                # Warnings are for this project's headers, and no binary carries the building machine's paths.
                *(f"-isystem{path}" for path in include_paths()),
                *(f"-ffile-prefix-map={path}/=" for path in (ROOT, *include_paths())),
            ],
            extra_link_args=["-Wl,--as-needed"] if sys.platform == "linux" else [],
            py_limited_api=True,
        )
        built.include_dirs = [str(ROOT / "csrc")]
        if sys.platform == "linux":
            # libtorch happens to export a few of libstdc++'s templates, so libstdc++ has to come first.
            built.libraries = ["stdc++", "torch_cpu"]
        return built

    def cuda_extension(nvcc: Nvcc) -> Any:
        try:
            names, headers, libraries = " ".join(architectures(nvcc)), nvcc.headers, nvcc.libraries
        except CannotBuild as reason:
            raise SystemExit(f"fused_rank: {reason}.") from None
        described = [
            "-DUSE_CUDA",  # shows the part of torch's C interface that knows CUDA streams
            f'-DFUSED_RANK_CUDA_VERSION="{nvcc.version}"',
            f'-DFUSED_RANK_CUDA_ARCHITECTURES="{names}"',
        ]
        built = extension("cuda", cuda_sources(), [*described, f"-isystem{headers}"])
        built.library_dirs.append(str(libraries))
        built.libraries += ["torch_cuda", "cudart_static", "rt", "dl", "pthread"]
        return built

    cpu = [
        extension(name, sources(), [*flags, f'-DFUSED_RANK_ISA="{name}"'])
        for name, flags in instruction_sets().items()
    ]
    options: dict[str, Any] = {"bdist_wheel": {"py_limited_api": "cp310"}}
    if nvcc is not None and "sdist" not in sys.argv:
        options["egg_info"] = {"tag_build": f"+cu{nvcc.version.replace('.', '')}"}

    return {
        "ext_modules": [*cpu, *([cuda_extension(nvcc)] if nvcc is not None else [])],
        "cmdclass": {"build_ext": BuildPerInstructionSet},
        "options": options,
    }


setup(**extension_options())

"""Compiles csrc/ once per instruction set; `pyproject.toml` says the rest.

Every instruction set gets the same sources in a shared object of its own; `fused_rank.ops.library` loads one.
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


class NeedsTorch(build_ext):
    """Stands in where there is no torch: metadata and source distributions need none, compiling does."""

    def run(self) -> None:
        raise SystemExit(NO_TORCH)


def extension_options() -> dict[str, Any]:
    """The arguments of setup() that compile the extension, or none of them for a pure-Python package."""
    reason = reason_not_to_compile()
    if reason:
        print(LEFT_OUT.format(reason=reason), file=sys.stderr)
        return {}
    os.environ["CXX"] = compiler() or ""
    if not torch_paths():
        return {
            "ext_modules": [Extension("fused_rank._C_base", sources())],
            "cmdclass": {"build_ext": NeedsTorch},
        }
    sys.path.extend(path for path in torch_paths() if path not in sys.path)
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

    class BuildPerInstructionSet(BuildExtension):
        build_temp: str

        def build_extension(self, extension: Any) -> None:
            # The extensions share their sources, so each needs a folder of its own for the objects.
            shared, self.build_temp = self.build_temp, os.path.join(self.build_temp, extension.name)
            try:
                super().build_extension(extension)
            except Exception as error:
                raise SystemExit(FAILED.format(name=extension.name, cxx=os.environ["CXX"])) from error
            finally:
                self.build_temp = shared

    def extension(name: str, flags: list[str]) -> Any:
        built = CppExtension(
            f"fused_rank._C_{name}",
            sources(),
            depends=[path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("csrc/**/*.h"))],
            extra_compile_args=[
                *COMPILE,
                *flags,
                f'-DFUSED_RANK_ISA="{name}"',
                f"-DFUSED_RANK_MODULE=_C_{name}",
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

    return {
        "ext_modules": [extension(name, flags) for name, flags in instruction_sets().items()],
        "cmdclass": {"build_ext": BuildPerInstructionSet},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


setup(**extension_options())

"""The build backend: setuptools', plus two questions that `setup.py` asks too.

* Is there a C++20 compiler? Without one the package installs as pure Python and needs no torch to build.
* Which torch headers? LibTorch's stable ABI makes those of any torch >= 2.10 do, so a build that pip isolates
  uses the torch of the environment it installs into, and fetches one only where there is none.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import setuptools
from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401  (hooks that pip and build call by name)
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

if int(setuptools.__version__.split(".")[0]) < 77:  # older ones don't know pyproject.toml's license field
    raise SystemExit(
        f"fused_rank: building needs setuptools>=77, this environment has {setuptools.__version__}: "
        "pip install --upgrade setuptools, or drop --no-build-isolation."
    )

MINIMUM_TORCH = (2, 10)
# Needs the C++20 library as well as the language: GCC 10 or Clang 12 and newer pass.
PROBE = """
#include <bit>
#include <concepts>
#include <cstdint>
int count(std::unsigned_integral auto x) { return std::countr_zero(x); }
int main() { return count(2u); }
"""


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_wheel(config_settings) + _torch_requirement()


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_editable(config_settings) + _torch_requirement()


def _torch_requirement() -> list[str]:
    return [] if reason_not_to_compile() or torch_paths() else ["torch>=2.10"]


def reason_not_to_compile() -> str | None:
    """Why this build leaves the extension out, or None when it compiles it."""
    if os.environ.get("FUSED_RANK_NO_EXTENSION", "0") not in ("", "0"):
        return "FUSED_RANK_NO_EXTENSION is set"
    if sys.platform == "win32":
        return "this release compiles with GCC or Clang only"
    if compiler() is None:
        asked = os.environ.get("CXX")
        return (
            f"CXX={asked} does not compile C++20"
            if asked
            else "no C++20 compiler was found (c++, g++, clang++)"
        )
    return None


@cache
def compiler() -> str | None:
    """The first compiler command that compiles and links C++20; $CXX alone if it is set."""
    asked = os.environ.get("CXX")
    return next((cxx for cxx in ([asked] if asked else ["c++", "g++", "clang++"]) if accepts(cxx)), None)


def accepts(cxx: str, flags: Sequence[str] = ()) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "probe.cpp")
        source.write_text(PROBE)
        command = [
            *shlex.split(cxx),
            "-std=c++20",
            "-fPIC",
            "-shared",
            *flags,
            str(source),
            "-o",
            f"{scratch}/probe.so",
        ]
        try:
            return subprocess.run(command, capture_output=True, timeout=120).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


@cache
def torch_paths() -> tuple[str, ...]:
    """Folders to append to sys.path so that `import torch` works; empty if no torch >= 2.10 is installed.

    pip isolates a build by hiding site-packages, but runs it under the target environment's own interpreter,
    whose install scheme still tells where those packages lie.
    """
    candidates = [
        *sys.path,
        *(sysconfig.get_path(p) for p in ("purelib", "platlib")),
        site.getusersitepackages(),
    ]
    folders = tuple(dict.fromkeys(path for path in candidates if path and os.path.isdir(path)))
    for distribution in importlib.metadata.distributions(name="torch", path=list(folders)):
        major, minor = distribution.version.split(".")[:2]
        if (int(major), int(minor)) >= MINIMUM_TORCH:
            return folders
    return ()

"""Refuses a wheel that would not run under every Python >= 3.10 and torch >= 2.10."""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

TAG = re.compile(r"^fused_rank-[^-]+-cp310-abi3-(manylinux_2_\d+|linux|macosx_\d+_\d+)_\w+\.whl$")
# at::, c10:: and torch:: names as the compiler writes them, also inside another name: N2at.., 3c10, 5torch
LIBTORCH = re.compile(r"^_Z.*(?<!\d)(?:2at|3c10|5torch)(?=\d|[A-Z])")
# What a local version such as +cu130 adds: kernels beside libtorch's CUDA part, with the CUDA runtime linked in.
CUDA_MODULE = "_C_cuda.abi3.so"
ALLOWED = re.compile(r"^(libstdc\+\+|libgcc_s|libc|libm|libpthread|ld-linux.*|libtorch_cpu|libc10)\.so")


def section(elf: ELFFile, name: str) -> Any:
    found = elf.get_section_by_name(name)
    if found is None:
        raise ValueError(f"no section {name}: not a shared object")
    return found


def undefined_symbols(elf: ELFFile) -> list[str]:
    symbols = section(elf, ".dynsym").iter_symbols()
    return [
        s.name
        for s in symbols
        if s["st_shndx"] == "SHN_UNDEF" and s["st_info"]["bind"] != "STB_WEAK" and s.name
    ]


def needed_libraries(elf: ELFFile) -> list[str]:
    tags = section(elf, ".dynamic").iter_tags()
    return [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]


def problems_of_object(name: str, data: bytes) -> list[str]:
    elf = ELFFile(io.BytesIO(data))
    found = [
        f"{name}: undefined libtorch C++ symbol {s}" for s in undefined_symbols(elf) if LIBTORCH.match(s)
    ]
    also = ("libtorch_cuda.so",) if name.endswith(CUDA_MODULE) else ()
    found += [
        f"{name}: needs {lib}" for lib in needed_libraries(elf) if not ALLOWED.match(lib) and lib not in also
    ]
    found += [f"{name}: not an abi3 file name"] * (not name.endswith(".abi3.so"))
    return found


def problems_of_wheel(wheel: Path) -> list[str]:
    found = [] if TAG.match(wheel.name) else [f"tag of {wheel.name} is not cp310-abi3 on a known platform"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        objects = [name for name in names if name.endswith(".so")]
        found += [] if objects else ["no compiled extension"]
        wanted = ["_C_base", "_C_avx2", "_C_avx512"] if wheel.stem.endswith("x86_64") else ["_C_base"]
        found += [f"{w} is missing" for w in wanted if f"fused_rank/{w}.abi3.so" not in names]
        found += ["py.typed is missing"] * ("fused_rank/py.typed" not in names)
        found += [f"stray file {name}" for name in names if not name.startswith("fused_rank")]
        if "macosx" not in wheel.name:
            found += [p for name in objects for p in problems_of_object(name, archive.read(name))]
    audit = subprocess.run(["abi3audit", "--strict", "--summary", str(wheel)], capture_output=True, text=True)
    found += [] if audit.returncode == 0 else ["abi3audit: " + audit.stdout + audit.stderr]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", nargs="+", type=Path)
    wheels: list[Path] = parser.parse_args().wheels
    found = [problem for wheel in wheels for problem in problems_of_wheel(wheel)]
    print(
        "\n".join(found)
        or f"{', '.join(w.name for w in wheels)}: abi3, no undefined libtorch C++ symbol, tag and files right"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

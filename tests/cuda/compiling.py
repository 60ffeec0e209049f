"""nvcc on one file of csrc/cuda/ for one GPU, torch's headers out of its sight, and what ptxas says of the kernels."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ..cuda_emulation import build as emulated
from .gpus import Counts, Gpu

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "gates" / "cuda"
sys.path.insert(0, str(ROOT / "scripts"))
import build_cuda  # noqa: E402

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
ENTRY = re.compile(r"\.entry\s+(\w+)\s*\((.*?)\n\{", re.S)
BOUND = re.compile(r"\.maxntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?")
USAGE = re.compile(
    r"Function properties for (?P<name>\w+)\s+"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\s+"
    r"ptxas info\s+: Used (?P<registers>\d+) registers(?P<rest>[^\n]*)"
)


@cache
def nvcc() -> build_cuda.Nvcc | str:
    """The compiler, or why there is none."""
    try:
        return build_cuda.find_nvcc()
    except build_cuda.CannotBuild as reason:
        return str(reason)


def release() -> str:
    found = nvcc()
    return found if isinstance(found, str) else found.version


def sources() -> list[Path]:
    """The files that hold kernels."""
    return [path for path in sorted(ROOT.glob("csrc/cuda/*.cu")) if "launch" in path.read_text()]


def source_hash(path: Path) -> str:
    """Of the file and all it includes, comments and layout apart, and of nvcc's options."""
    parts = [
        part for part in emulated.made_of(emulated.Source(path, ())) if part.is_relative_to(ROOT / "csrc")
    ]
    text = "\n".join(" ".join(COMMENT.sub(" ", part.read_text()).split()) for part in parts)
    return hashlib.sha256(f"{build_cuda.FLAGS}\n{text}".encode()).hexdigest()[:16]


def count(path: Path, gpu: Gpu) -> dict[str, Counts]:
    """{kernel: counts} of a file, kept in build/ by what they depend on."""
    own = Path(__file__).read_text()
    key = hashlib.sha256("\n".join([path.name, source_hash(path), gpu.name, release(), own]).encode())
    kept = CACHE / f"{key.hexdigest()[:32]}.json"
    if not kept.exists():
        counts = compile_for(path, gpu)
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(counts))
    found: dict[str, Counts] = json.loads(kept.read_text())
    return found


def compile_for(path: Path, gpu: Gpu) -> dict[str, Counts]:
    with tempfile.TemporaryDirectory() as folder:
        architecture = f"-gencode=arch=compute_{gpu.number},code=sm_{gpu.number}"
        kept = ("--keep", "--keep-dir", folder, "-o", f"{folder}/out.cubin")
        said = _run([architecture, "-Xptxas=-v", "-cubin", str(path), *kept])
        text = Path(folder, f"{path.stem}.ptx").read_text()
    threads = {name: _threads(body) for name, body in ENTRY.findall(text)}
    usage = {found["name"]: found for found in USAGE.finditer(said)}
    if threads.keys() != usage.keys():
        raise RuntimeError(f"ptxas says nothing of {threads.keys() ^ usage.keys()}")
    names = readable(list(threads))
    return {names[name]: _counts(usage[name], threads[name]) for name in threads}


def ptx(path: Path, gpu: Gpu) -> str:
    """The PTX of a file, kept in build/ by what it depends on."""
    key = hashlib.sha256("\n".join([path.name, source_hash(path), gpu.name, release()]).encode())
    kept = CACHE / f"{path.stem}-{key.hexdigest()[:32]}.ptx"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        _run(
            [
                f"-arch=compute_{gpu.number}",
                "-ptx",
                f"-I{ROOT / 'csrc' / 'cuda'}",
                str(path),
                "-o",
                str(partial),
            ]
        )
        partial.rename(kept)
    return kept.read_text()


def _run(arguments: list[str]) -> str:
    """What the compiler said."""
    compiler = nvcc()
    assert not isinstance(compiler, str)
    # these would put other headers on the include path
    others = ("CPATH", "CPLUS_INCLUDE_PATH", "NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    command = [str(compiler.path), *build_cuda.FLAGS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _threads(head: str) -> int:
    """The block that __launch_bounds__ names; 1024 without."""
    found = BOUND.search(head)
    if not found:
        return 1024
    x, y, z = (int(part or 1) for part in found.groups())
    return x * y * z


def _counts(usage: re.Match[str], threads: int) -> Counts:
    def number(pattern: str) -> int:
        found = re.search(pattern, usage["rest"])
        return int(found.group(1)) if found else 0

    return {
        "threads": threads,
        "registers": int(usage["registers"]),
        "shared bytes": number(r"(\d+) bytes smem"),
        "stack bytes": max(int(usage["stack"]), number(r"(\d+) bytes cumulative stack")),
        "spill bytes": int(usage["stores"]) + int(usage["loads"]),
    }


def readable(mangled: list[str]) -> dict[str, str]:
    """{symbol: "kernel<float, Contrastive>"}."""
    if not mangled:
        return {}
    shown = subprocess.run(
        ["c++filt", *mangled], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return dict(zip(mangled, map(shortened, shown), strict=True))


def shortened(demangled: str) -> str:
    """Without return type, namespaces and arguments."""
    text = re.sub(r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|\b[a-z_]\w*::", "", demangled)
    text = re.sub(r"\(\w+\)(?=\d)", "", text).removeprefix("void ")
    return text.partition("(")[0]

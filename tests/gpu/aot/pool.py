"""A few worker processes, answers cached by what they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build" / "gates"


class Job(NamedTuple):
    identity: str
    target: str
    source: str  # hash

    @property
    def cache_file(self) -> Path:
        own = "".join(
            path.read_text() for path in sorted(Path(__file__).parent.glob("*.py")) if path.name in _PARTS
        )
        text = "\n".join([*self, version("triton"), own])
        return CACHE / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


_PARTS = ("build.py", "disassembly.py", "targets.py")  # what an answer depends on besides the kernels


class Worker:
    """A process that answers JSON lines with JSON lines; `cache` keeps Triton's compilations apart from other uses."""

    def __init__(self, module: str = f"{__package__}.worker", cache: str = "triton") -> None:
        environment = {
            **os.environ,
            "TRITON_INTERPRET": "0",
            "TRITON_CACHE_DIR": str(CACHE / cache),
            "TRITON_DEFAULT_FP_FUSION": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the compiling process ended with {self._process.wait()}: its message is above"
            )
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


def listing() -> dict[str, tuple[str, str]]:
    """{identity: (source hash, label)} of all that ships."""
    worker = Worker()
    try:
        return {identity: (source, label) for identity, source, label in worker.ask({"list": True})}
    finally:
        worker.close()


def build(
    jobs: Sequence[Job],
    processes: int,
    done: Callable[[Job, dict[str, Any]], None],
    seconds: float = float("inf"),
) -> dict[Job, dict[str, Any]]:
    """Compiles what is not cached, `processes` at a time; `done` is called as each is ready.

    After `seconds` no more are begun, and what is ready is returned.
    """
    end = time.monotonic() + seconds
    results: dict[Job, dict[str, Any]] = {}
    missing = []
    for job in jobs:
        if job.cache_file.exists():
            results[job] = json.loads(job.cache_file.read_text())
            done(job, results[job])
        else:
            missing.append(job)
    if not missing:
        return results
    CACHE.mkdir(parents=True, exist_ok=True)
    idle: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker() for _ in range(min(processes, len(missing)))]
    for worker in workers:
        idle.put(worker)

    def one(job: Job) -> None:
        if time.monotonic() > end:
            return
        worker = idle.get()
        try:
            results[job] = worker.ask({"build": job.identity, "target": job.target})
        finally:
            idle.put(worker)
        job.cache_file.write_text(json.dumps(results[job]))
        done(job, results[job])

    try:
        with ThreadPoolExecutor(len(workers)) as threads:
            list(threads.map(one, missing))
    finally:
        for worker in workers:
            worker.close()
    return results

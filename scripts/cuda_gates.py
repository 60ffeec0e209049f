"""Compiles every kernel of csrc/cuda/ for every target GPU, without one, and refuses what must not ship.

Gates: no spills, shared memory within the target's limit. Writes tests/gpu/cuda_counters.json and
docs/cuda_counters.md. A counter may grow by more than 5%, or occupancy fall by as much, only with --reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cuda import compiling, counters, executed
from tests.cuda.counters import Entry, Record
from tests.cuda.gpus import GPUS, Counts, Gpu, violations


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="compilations at a time")
    parser.add_argument(
        "--changed", action="store_true", help="only files that changed since they were recorded"
    )
    parser.add_argument("--executed", action="store_true", help="also count PTX as the emulator runs it")
    parser.add_argument(
        "--reason", help="why counters that grew by more than 5%% may do so; kept in the file"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if isinstance(missing := compiling.nvcc(), str):
        print(f"skipped: {missing}")
        return 0
    old = counters.load()
    hashes = {path: compiling.source_hash(path) for path in compiling.sources()}
    kept = {}
    if options.changed and old.nvcc == compiling.release():
        kept = {
            path.name: entry
            for path, source in hashes.items()
            if (entry := old.files.get(path.name)) and entry.source == source
        }
    jobs = [(path, gpu) for path in hashes if path.name not in kept for gpu in GPUS.values()]
    start = time.monotonic()

    def one(job: tuple[Path, Gpu]) -> dict[str, Counts]:
        found = compiling.count(*job)
        print(
            f"{time.monotonic() - start:5.0f} s  {job[1].name:7s} {job[0].name}: {len(found)} kernels",
            flush=True,
        )
        return found

    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(jobs, pool.map(one, jobs), strict=True))
    new = Record(compiling.release(), list(old.reasons), kept, old.executed)
    failed = 0
    for (path, gpu), kernels in results.items():
        entry = new.files.setdefault(path.name, Entry(hashes[path]))
        for name, counts in kernels.items():
            entry.kernels.setdefault(name, {})[gpu.name] = counts
            for violation in violations(counts, gpu):
                print(f"FAILED {gpu.name:7s} {path.name} {name}: {violation}")
                failed += 1
    worse = counters.compare(old, new)
    print(*worse, sep="\n")
    total = sum(map(len, results.values()))
    print(f"{total} kernels compiled, {failed} violations, {len(worse)} counters grew by more than 5%")
    if failed:
        return 1
    if worse and not options.reason:
        print("nothing recorded: say why with --reason")
        return 1
    new.reasons += [options.reason] * bool(worse)
    if options.executed:
        new.executed = executed.measure()
    counters.save(new)
    counters.write_page(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())

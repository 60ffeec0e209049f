"""Compiles every shipped kernel for every target GPU, without one, and refuses what must not ship.

Gates: no spills, shared memory within the target's limit, tensor-core instructions where the precision calls for them.
Writes tests/gpu/counters.json and docs/gpu_counters.md. A counter may grow by more than 5% only with --reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gpu.aot import pool, records, report
from tests.gpu.aot.pool import Job
from tests.gpu.aot.records import Entry, Record
from tests.gpu.aot.targets import TARGETS


class Progress:
    """One line for each failure, and a last line that says how far it is."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()

    def __call__(self, job: Job, result: dict[str, Any]) -> None:
        self.done += 1
        for violation in result["violations"]:
            print(f"\rFAILED {job.target:7s} {job.identity}: {violation}")
        seconds = time.monotonic() - self.start
        print(
            f"\r{self.done} of {self.total}, {seconds:.0f} s ",
            end="\n" * (self.done == self.total),
            flush=True,
        )


def compare(old: Record, new: Record) -> list[str]:
    """What grew between two records, where both were made by one Triton."""
    if old.triton != new.triton:
        return []
    found = []
    for name, entry in new.entries.items():
        before = old.entries.get(name)
        for target, counts in entry.counts.items():
            if before and before.counts.get(target):
                found += [
                    f"{target} {name}: {text}" for text in records.worsened(before.counts[target], counts)
                ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes that compile (default: %(default)s)")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument(
        "--match", default="", help="only kernels whose name or label contains this; writes nothing"
    )
    parser.add_argument(
        "--reason", help="why counters that grew by more than 5%% may do so; kept in the file"
    )
    options = parser.parse_args()
    if options.jobs > 2:
        parser.error("--jobs: two at most")
    listing = pool.listing()
    chosen = {name: entry for name, entry in listing.items() if options.match in f"{name} {entry[1]}"}
    jobs = [Job(name, target, source) for target in options.targets for name, (source, _) in chosen.items()]
    print(f"{len(chosen)} kernels for {', '.join(options.targets)}")
    results = pool.build(jobs, options.jobs, Progress(len(jobs)))

    old = records.load()
    new = Record(reasons=old.reasons, emulated=old.emulated)
    for job in jobs:
        source, label = chosen[job.identity]
        entry = new.entries.setdefault(job.identity, Entry(source, label))
        entry.counts[job.target] = results[job]["counts"]
        if results[job]["violations"]:
            entry.violations[job.target] = results[job]["violations"]
    failed = sum(bool(results[job]["violations"]) for job in jobs)
    grown = compare(old, new)
    print(*grown, sep="\n")
    print(f"{len(jobs) - failed} pass, {failed} fail, {len(grown)} counters grew by more than 5%")
    partial = bool(options.match) or set(options.targets) != set(TARGETS)
    if partial or (grown and not options.reason):
        print("nothing recorded: " + ("a part only" if partial else "say why with --reason"))
        return int(bool(failed or grown))
    new.reasons += [options.reason] * bool(grown)
    records.save(new)
    report.write(new)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

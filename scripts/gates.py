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

from tests.gpu.aot import executed, plan, pool, records, report
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


def merge(old: Record, results: dict[Job, dict[str, Any]], listing: dict[str, tuple[str, str]]) -> Record:
    """What ships now: new results over old ones, where the sources of the old are still the same."""
    new = Record(reasons=list(old.reasons), emulated=old.emulated)
    for name, (source, label) in listing.items():
        entry = Entry(source, label)
        before = old.entries.get(name)
        if before and before.source == source and old.triton == new.triton:
            entry.counts.update(before.counts)
            entry.violations.update(before.violations)
        for target in TARGETS:
            if (found := results.get(Job(name, target, source))) is not None:
                entry.counts[target] = found["counts"]
                entry.violations.pop(target, None)
                if found["violations"]:
                    entry.violations[target] = found["violations"]
        if entry.counts:
            new.entries[name] = entry
    return new


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="processes that compile")
    parser.add_argument("--cover", action="store_true", help="only what make test asks to be recorded")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--match", default="", help="only kernels whose name or label contains this")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop then, and record what is done"
    )
    parser.add_argument("--executed", action="store_true", help="also count PTX as the emulator runs it")
    parser.add_argument(
        "--only-executed", action="store_true", help="that alone; nothing else of the record changes"
    )
    parser.add_argument(
        "--reason", help="why counters that grew by more than 5%% may do so; kept in the file"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.only_executed:
        record = records.load()
        record.emulated = executed.measure()
        records.save(record)
        report.write(record)
        return 0
    listing = pool.listing()
    jobs = [
        job
        for job in (plan.cover if options.cover else plan.complete)(listing)
        if job.target in options.targets and options.match in f"{job.identity} {listing[job.identity][1]}"
    ]
    print(f"{len(listing)} kernels ship, {len(jobs)} compilations")
    results = pool.build(jobs, options.jobs, Progress(len(jobs)), 60 * options.minutes)
    failed = sum(bool(result["violations"]) for result in results.values())
    old = records.load()
    new = merge(old, results, listing)
    grown = compare(old, new)
    print(*grown, sep="\n")
    print(f"{len(results) - failed} pass, {failed} fail, {len(grown)} counters grew by more than 5%")
    if grown and not options.reason:
        print("nothing recorded: say why with --reason")
        return 1
    new.reasons += [options.reason] * bool(grown)
    if options.executed:
        new.emulated = executed.measure()
    records.save(new)
    report.write(new)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

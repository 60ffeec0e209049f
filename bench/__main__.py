"""Command line of the benchmarks."""

import argparse
import sys
import time
from pathlib import Path

import torch

from . import cases, charts, curves, gpu, machine, results, runner, table
from .cases import CASES, Case
from .results import Run

RESULTS = Path(__file__).parent / "results"
QUICK_ROWS = 256


def main() -> int:
    options = _parse()
    if options.list:
        print("\n".join(_listed(case) for case in CASES))
        return 0
    if options.device == "cuda":
        return gpu.main(options, _report)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        chosen = _choose(options)
        other = results.load(options.compare) if options.compare else None
    except (KeyError, OSError, ValueError) as error:
        print(f"bench: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    run = _measure(options, chosen)
    _show(run, other)
    _keep(run, options.out, options.json)
    return 1 if run.errors else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Time, memory and accuracy of fused_rank, side by side with eager PyTorch and its peers.",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="every case, baseline and chart")
    size.add_argument("--quick", action="store_true", help="headline cases on small batches: does it run?")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case (repeatable)")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: PyTorch's own choice)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the run here as well")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    parser.add_argument("--compare", type=Path, metavar="OTHER.json", help="show the change from a saved run")
    parser.add_argument("--no-charts", action="store_true", help="skip the batch-size curves")
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="cuda: on a GPU, see docs/gpu.md"
    )
    return parser.parse_args()


def _choose(options: argparse.Namespace) -> list[Case]:
    if options.case:
        return [cases.find(name) for name in options.case]
    chosen = [case for case in CASES if case.headline or options.full]
    if options.quick:
        return [case.resized(min(case.rows, QUICK_ROWS)).without("compiled") for case in chosen]
    return chosen


def _measure(options: argparse.Namespace, chosen: list[Case]) -> Run:
    started = time.perf_counter()
    settings = _settings(options)
    chosen_size = "full" if options.full else "quick" if options.quick else "default"
    run = Run(machine.describe(), {"size": chosen_size, "timing_budget": settings.timing_budget})
    run.rows, run.errors = runner.run(chosen, settings, _report)
    interrupted = len(run.rows) < len(chosen)
    if not (options.case or options.no_charts or interrupted):
        for curve in curves.curves(options.full):
            sizes = [256, 512] if options.quick else [512, 1024, 2048, 4096, 8192, 16384]
            sizes += [32768] if options.full else []
            run.points += curves.measure(curve, sizes, 60.0 if options.full else 6.0, _report)
    run.seconds = time.perf_counter() - started
    return run


def _settings(options: argparse.Namespace) -> runner.Settings:
    if options.full:
        return runner.Settings(True, 15.0, time_limit=180.0, check_errors_to=8192, compiled_memory=True)
    return runner.Settings(timing_budget=0.2 if options.quick else 2.0)


def _show(run: Run, other: Run | None) -> None:
    print(table.machine_line(run), end="\n\n")
    print(table.terminal(table.COLUMNS, table.result_rows(run.rows), table.NUMBERS_FROM), end="\n\n")
    bars = table.bar_rows(run.rows)
    if bars:
        print(table.terminal(table.BAR_COLUMNS, bars, 2), end="\n\n")
    if other:
        print(f"against {table.machine_line(other)}")
        print(table.terminal(table.COMPARISON_COLUMNS, table.comparison_rows(run, other), 1), end="\n\n")
    for error in run.errors:
        print(f"error: {error}", file=sys.stderr)


def _keep(run: Run, folder: Path, also: Path | None) -> None:
    results.save(run, folder / "latest.json")
    if also:
        results.save(run, also)
    (folder / "latest.md").write_text(table.whole_markdown(run))
    drawn = charts.draw(run, folder)
    names = ", ".join(["latest.json", "latest.md", *(path.name for path in drawn)])
    print(f"{run.seconds:.0f} s; {names} in {folder}")


def _listed(case: Case) -> str:
    bars = ", ".join(bar.text for bar in case.bars)
    return f"{case.name:34}{case.shape:>11}  {'default' if case.headline else '--full ':7}  {bars}"


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

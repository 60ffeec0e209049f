"""A GPU run as Markdown, formulas included."""

from .gpu_results import GpuRun, Result, Row
from .implementations import LABELS, OURS
from .table import NOTHING, markdown

COLUMNS = (
    *("case", "dtype", "contender", "p20 / p50 / p80 ms", "× fused_rank"),
    *("TFLOP/s", "% of mm", "peak MiB", "from eager"),
)


def page(run: GpuRun) -> str:
    """The whole run: device, how it was measured, table."""
    rows = [_cells(row, result) for row in run.rows for result in row.results]
    blocks = (
        "# Benchmark on a GPU",
        f"{_device(run)}; torch {run.machine['torch']}, fused_rank {run.machine['fused_rank']} at"
        f" {run.machine['commit']}.",
        "Forward and backward, CUDA events, L2 flushed before every sample, contenders interleaved, medians. TFLOP/s"
        " is effective: k · 2B²D / p50, with k = 2 products for the ranked list, contrastive, all and band losses and"
        " k = 1 for hard and semihard mining, whoever computes how many; % of mm is its share of what `torch.mm` of"
        " B×D by D×B reaches in the same dtype, in the same rounds. Peak memory is the allocator's, above the inputs."
        " *from eager*: relative difference of our gradient from the eager oracle's, which widens 16-bit input to fp32"
        " (a mined loss may choose another of two nearly equal negatives).",
        markdown(COLUMNS, rows, 3),
    )
    return "\n\n".join(blocks) + "\n"


def _device(run: GpuRun) -> str:
    found = run.device
    if "sms" not in found:
        return str(found["name"])
    return (
        f"{found['name']} (sm {found['capability']}, {found['sms']} SMs, {found['memory_gib']} GiB, L2"
        f" {found['l2_mib']} MiB), CUDA {found['cuda']}, fp32 products {found['fp32_matmul']!r}"
    )


def _cells(row: Row, result: Result) -> tuple[str, ...]:
    first = result.implementation == OURS
    names = (row.case, row.dtype) if first else ("", "")
    label = LABELS[result.implementation] + (f" ({row.served})" if first and row.served else "")
    peak = NOTHING if result.peak_bytes is None else f"{result.peak_bytes / 2**20:.0f}"
    if result.time is None or result.flops is None:
        return (*names, label, result.note or NOTHING, *[NOTHING] * 3, peak, NOTHING)
    times = " / ".join(
        f"{seconds * 1e3:.3g}" for seconds in (result.time.p20, result.time.p50, result.time.p80)
    )
    return (
        *names,
        label,
        times,
        NOTHING if result.slower is None else f"{result.slower:.2f}",
        f"{result.flops / 1e12:.3g}",
        f"{100 * result.flops / row.ceiling_flops:.0f}",
        peak,
        NOTHING if result.difference is None else f"{result.difference:.0e}",
    )

"""The pictures of the two examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fused_rank.diagnostics import SPREAD

if TYPE_CHECKING:
    from collapse import Watched
    from fused_rank import mining


def embeddings(path: Path, before: Tensor, after: Tensor, labels: Tensor) -> None:
    """Two principal components of the unit rows, before and after training, coloured by class."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6))
    for axis, rows, title in zip(axes, (before, after), ("before training", "after"), strict=True):
        unit = normalize(rows)
        centred = unit - unit.mean(0)
        _, _, components = torch.linalg.svd(centred, full_matrices=False)
        across, down = (centred @ components[:2].T).T
        for label in labels.unique():
            mine = labels == label
            axis.scatter(across[mine], down[mine], s=9, alpha=0.7, label=str(int(label)))
        axis.set_title(f"held-out digits, {title}")
        axis.legend(title="digit", loc="best", fontsize=8)
    _save(figure, path)


def scores(path: Path, table: dict[str, tuple[float, float]], baseline: float) -> None:
    """Recall@1 and mAP@R of every row in per cent, best first, and a line at the baseline's Recall@1."""
    names = sorted(table, key=lambda name: table[name][0])
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(names) + 1.2))
    place = range(len(names))
    axis.barh([p + 0.2 for p in place], [table[n][0] for n in names], 0.4, label="Recall@1")
    axis.barh([p - 0.2 for p in place], [table[n][1] for n in names], 0.4, label="mAP@R")
    axis.set_yticks(list(place), names)
    axis.axvline(baseline, color="grey", linewidth=0.8)
    axis.set_xlim(0, 100)
    axis.legend(loc="lower right")
    axis.set_title("digits never trained on, mean over the splits, %")
    _save(figure, path)


def triplets(path: Path, at: Sequence[int], counts: Sequence[mining.TripletStats]) -> None:
    """Shares of easy, semi-hard and hard triplets over the steps."""
    figure, axis = plt.subplots(figsize=(8, 4))
    shares = [[getattr(c, kind) / c.triplets for c in counts] for kind in ("hard", "semihard", "easy")]
    axis.stackplot(at, *shares, labels=["hard", "semi-hard", "easy"], colors=["#c44", "#e9a23b", "#7ab37a"])
    axis.set_xlabel("step")
    axis.set_ylabel("share of all triplets of the batch")
    axis.set_ylim(0, 1)
    axis.legend(loc="center right")
    _save(figure, path)


def collapse(path: Path, runs: Sequence[Watched], margin: float) -> None:
    """Loss, Recall@1, spread and effective rank; a dot where `embedding_health` first tells."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True)
    panels = (
        ("loss (grey: the margin)", [run.loss for run in runs]),
        ("Recall@1, held-out digits (grey: chance)", [run.recall for run in runs]),
        ("spread of the batch (grey: warned below)", [[h.spread for h in run.health] for run in runs]),
        ("effective rank of the batch", [[h.effective_rank for h in run.health] for run in runs]),
    )
    for axis, (title, lines), level in zip(axes.flat, panels, (margin, 0.25, SPREAD, None), strict=True):
        for run, values in zip(runs, lines, strict=True):
            (line,) = axis.plot(run.step, values, label=run.name)
            if run.told is not None:
                axis.plot(run.step[run.told], values[run.told], "o", color=line.get_color())
        if level is not None:
            axis.axhline(level, color="grey", linewidth=0.8)
        axis.set_title(title)
        axis.set_xscale("log")
    axes[0, 0].legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("step")
    _save(figure, path)


def curves(path: Path, runs: dict[str, list[float]], baseline: float) -> None:
    """Held-out MRR before training and after each epoch, and the baseline's."""
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for name, values in runs.items():
        axis.plot(values, marker="o", markersize=3, label=name)
    axis.axhline(baseline, color="grey", linestyle="--", label="TF-IDF")
    axis.set_xlabel("epoch")
    axis.set_ylabel("MRR, held-out modules")
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)

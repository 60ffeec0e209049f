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

if TYPE_CHECKING:
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


def scores(path: Path, table: dict[str, tuple[float, float]]) -> None:
    """Recall@1 and mAP@R of every row, best first."""
    names = sorted(table, key=lambda name: table[name][0])
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(names) + 1.2))
    place = range(len(names))
    axis.barh([p + 0.2 for p in place], [table[n][0] for n in names], 0.4, label="Recall@1")
    axis.barh([p - 0.2 for p in place], [table[n][1] for n in names], 0.4, label="mAP@R")
    axis.set_yticks(list(place), names)
    axis.set_xlim(0, 1)
    axis.legend(loc="lower right")
    axis.set_title("classes never trained on")
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


def collapse(path: Path, runs: Sequence[Any]) -> None:
    """Effective rank and loss of hard mining, a line a learning rate."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for run in runs:
        label = f"learning rate {run.learning_rate:g}"
        (line,) = axes[0].plot(run.effective_rank, label=label)
        axes[1].plot(run.loss, label=label, color=line.get_color())
        if run.warned_at is not None:
            axes[0].axvline(
                run.warned_at, color=line.get_color(), linestyle=":", label="embedding_health warns"
            )
    axes[0].set_title("effective rank of the batch")
    axes[1].set_title("hard triplet loss (margin 0.2)")
    axes[1].axhline(0.2, color="grey", linewidth=0.8)
    for axis in axes:
        axis.set_xlabel("step")
        axis.legend(fontsize=8)
    _save(figure, path)


def curves(path: Path, runs: dict[str, list[float]], baseline: float) -> None:
    """Held-out MRR after each epoch, and the baseline's."""
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for name, values in runs.items():
        axis.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    axis.axhline(baseline, color="grey", linestyle="--", label="TF-IDF")
    axis.set_xlabel("epoch")
    axis.set_ylabel("MRR, held-out modules")
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)

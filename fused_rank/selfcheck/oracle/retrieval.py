"""Orders, the measures of retrieval, and sampling."""

import torch
from torch import Tensor


def ranked(d: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k least of each row in order, their columns, and each row's gap."""
    ordered, columns = d.sort(dim=1, stable=True)
    return ordered[:, :k], columns[:, :k], ordered[:, : k + 1].diff(dim=1).amin(1)


def retrieval_measures(d: Tensor, positive: Tensor, negative: Tensor, k: int) -> tuple[Tensor, float]:
    """Means of precision@k, R-precision, average precision and reciprocal rank, and the least gap in any row."""
    rows, gaps = [], []
    for row, p, n in zip(d, positive, negative, strict=True):
        ordered, places = row[p | n].sort(stable=True)
        relevant = p[p | n][places].double()
        if not relevant.any():
            continue
        rank = torch.arange(1, len(relevant) + 1)
        total = int(relevant.sum())
        precision = relevant.cumsum(0) / rank
        first = 1 / (relevant.argmax() + 1).double()
        rows.append(
            torch.stack(
                [
                    relevant[:k].sum() / k,
                    relevant[:total].sum() / total,
                    (precision * relevant).sum() / total,
                    first,
                ]
            )
        )
        gaps.append(float(ordered.diff().min()) if len(ordered) > 1 else float("inf"))
    return torch.stack(rows).mean(0), min(gaps)


def sampling_weights(d: Tensor, negative: Tensor, width: int) -> Tensor:
    """1 / q(max(d, 0.5)) of negatives nearer than 1.4 (Wu et al., 2017); of any where none is."""
    near = d.clamp(min=0.5)
    logs = (2 - width) * near.log() + (3 - width) / 2 * (1 - near.square() / 4).clamp(min=1e-8).log()
    logs = logs.masked_fill(~negative | (d >= 1.4), -torch.inf)
    highest = logs.amax(1, keepdim=True)
    return torch.where(highest.isinf(), negative.double(), (logs - highest).exp())

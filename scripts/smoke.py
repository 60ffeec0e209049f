"""Is the installed package whole? Every loss, forward and backward, against its fp64 reference; mining and retrieval.

Run by the interpreter that has it installed, from outside the source tree: `python smoke.py --backend cpp`.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fused_rank
from fused_rank import (
    ContrastiveLoss,
    RankedListLoss,
    SupConLoss,
    TripletMarginLoss,
    mining,
    reference,
    retrieval,
)
from fused_rank.ops import library

LOSSES: list[tuple[type[torch.nn.Module], Callable[..., Tensor], dict[str, Any]]] = [
    (RankedListLoss, reference.ranked_list_loss, {"gradient": "query"}),
    (RankedListLoss, reference.ranked_list_loss, {"gradient": "both", "temperature_pos": 2.0}),
    (RankedListLoss, reference.ranked_list_loss, {"gradient": "exact"}),
    (ContrastiveLoss, reference.contrastive_loss, {}),
    (ContrastiveLoss, reference.contrastive_loss, {"power": 1, "reduction": "mean_active"}),
    (SupConLoss, reference.sup_con_loss, {}),
    *(
        (TripletMarginLoss, reference.triplet_margin_loss, {"mining": mined, "soft_margin": soft})
        for mined in ("semihard", "hard", "all", "semihard_all")
        for soft in (False, True)
    ),
]


def close(ours: Tensor, exact: Tensor, what: str) -> None:
    error = float((ours.double() - exact).norm() / exact.norm().clamp_min(1e-12))
    if not error < 1e-4:
        raise AssertionError(f"{what}: relative error {error:.1e}")


def check_losses(rows: Tensor, labels: Tensor, gallery: Tensor, gallery_labels: Tensor) -> int:
    checks = 0
    for module, oracle, options in LOSSES:
        for two_set in (False, True):
            name = f"{module.__name__}({options}), {'two-set' if two_set else 'self'} form"
            sides = {"gallery": gallery, "gallery_labels": gallery_labels} if two_set else {}
            exact_sides = {"gallery": gallery.double(), "gallery_labels": gallery_labels} if two_set else {}
            x, exact = rows.clone().requires_grad_(), rows.double().requires_grad_()
            ours, theirs = (
                module(**options)(x, labels, **sides),
                oracle(exact, labels, **exact_sides, **options),
            )
            ours.backward()
            theirs.backward()
            assert x.grad is not None
            assert exact.grad is not None
            close(ours.detach(), theirs.detach(), name)
            close(x.grad, exact.grad, f"gradient of {name}")
            checks += 1
    return checks


def check_search(rows: Tensor, labels: Tensor) -> int:
    distance = torch.cdist(
        torch.nn.functional.normalize(rows.double()), torch.nn.functional.normalize(rows.double())
    )
    same = labels.unsqueeze(1) == labels
    itself = torch.eye(len(rows), dtype=torch.bool)
    hardest = mining.hard(rows, labels)
    assert torch.equal(hardest.positive, distance.masked_fill(~same | itself, -1).argmax(1))
    assert torch.equal(hardest.negative, distance.masked_fill(same, 9).argmin(1))
    anchor, positive, negative = mining.semihard(rows, labels)
    assert torch.equal(torch.stack((anchor, positive), 1), (same & ~itself).nonzero())
    assert (labels[negative] != labels[anchor]).all()
    values, indices = retrieval.topk(rows, rows, 5, metric="cosine", exclude_self=True)
    best = (distance.masked_fill(itself, 9) ** 2 / 2).topk(5, largest=False)
    assert torch.equal(indices, best.indices)
    close(values, best.values, "topk")
    return 3


def check_compile(rows: Tensor, labels: Tensor) -> int:
    x = rows.clone().requires_grad_()
    loss = torch.compile(RankedListLoss(), fullgraph=True, backend="aot_eager")(x, labels)
    close(loss.detach(), RankedListLoss()(rows, labels).double(), "compiled RankedListLoss")
    loss.backward()
    assert x.grad is not None
    return 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="cpp", help="the backend that has to serve everything")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    if Path(fused_rank.__file__).is_relative_to(Path(__file__).resolve().parent.parent / "fused_rank"):
        sys.exit("this is the source tree's fused_rank, not an installed one")
    torch.manual_seed(0)
    rows, gallery = torch.randn(150, 24), torch.randn(90, 24)
    labels, gallery_labels = torch.randperm(150) % 30, torch.randperm(90) % 30
    with fused_rank.use_backend(options.backend):
        checks = check_losses(rows, labels, gallery, gallery_labels) + check_search(rows, labels)
        checks += 0 if options.no_compile else check_compile(rows, labels)
    served = library.runtime_info() if options.backend == "cpp" else options.backend
    print(
        f"fused_rank {fused_rank.__version__} ({served}), Python {platform.python_version()}, "
        f"torch {torch.__version__}: {checks} checks passed"
    )


if __name__ == "__main__":
    main()

"""Supervised contrastive loss and InfoNCE: one softmax over all pairs of a query."""

from torch import Tensor

from ..ops.option_checks import check_choice, check_flag, check_positive, check_temperature
from ..ops.options import REDUCTIONS, Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import reduce
from ..ops.rows import unit_rows, widened
from ..ops.validation import check_pairs


def sup_con_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    temperature: float = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """Supervised contrastive loss; see `fused_rank.SupConLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.eye(2).repeat(2, 1)  # each row has its copy, and two rows at a right angle
    >>> loss = sup_con_loss(x, torch.tensor([0, 1, 0, 1]), temperature=1.0)
    >>> round(float(loss), 4)  # log(e + 1 + 1) − 1
    0.5514
    """
    check_choice("reduction", reduction, REDUCTIONS)
    temperature = check_positive("temperature", temperature)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    term = PairTerm("sup_con_loss", "sup_con", (-1 / temperature,), uniform=reduction != "none")
    rows = pair_rows(term, embeddings, labels, gallery, gallery_labels, "cosine", True)
    return reduce(*rows, reduction)


def info_nce_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """InfoNCE, differentiable in `temperature` too; see `fused_rank.InfoNCELoss` for the formula and every argument.

    `temperature` is a number, or a floating-point tensor of one, which has to be above 0.

    >>> import torch
    >>> loss = info_nce_loss(torch.eye(3), gallery=torch.eye(3), temperature=1.0)
    >>> round(float(loss), 4)  # log(e + 1 + 1) − 1
    0.5514
    """
    check_choice("reduction", reduction, REDUCTIONS)
    temperature = check_temperature(temperature)
    symmetric = check_flag("symmetric", symmetric)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    if gallery is None:
        raise ValueError(
            "gallery: expected a tensor [N, D], got None; InfoNCE compares two sets, and SupConLoss one set with labels"
        )
    uniform = reduction != "none"
    if not isinstance(temperature, Tensor):
        term = PairTerm("info_nce_loss", "sup_con", (-1 / temperature,), uniform=uniform)
        rows = pair_rows(
            term, embeddings, labels, gallery, gallery_labels, "cosine", True, symmetric=symmetric
        )
        return reduce(*rows, reduction)
    x, others = (unit_rows(widened(rows, None)[0]) for rows in (embeddings, gallery))
    scaled = x / temperature.to(x)  # logits are inner products with it, so its gradient is that of T too
    term = PairTerm("info_nce_loss", "sup_con", (1.0,), uniform=uniform)
    rows = pair_rows(term, scaled, labels, others, gallery_labels, "dot", False, symmetric=symmetric)
    return reduce(*rows, reduction)

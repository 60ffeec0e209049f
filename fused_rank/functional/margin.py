"""Margin loss as a function."""

from torch import Tensor
from torch.nn import functional

from ..ops.option_checks import check_number
from ..ops.options import Metric, Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import reduce
from ..ops.validation import check_border, check_pairs
from ..reference.distance import accumulation_dtype
from ..reference.margin import over_triplets
from .common import check_common


def margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    margin: float = 0.2,
    nu: float = 0.0,
    beta: float | Tensor = 1.2,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean_active",
) -> Tensor:
    """Margin loss, differentiable in `beta` too; see `fused_rank.MarginLoss` for the formula and every argument.

    `beta` is a number, a tensor of one, or a floating-point tensor [C] that is indexed by the labels.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [1.5]])
    >>> beta = torch.tensor(1.0, requires_grad=True)
    >>> loss = margin_loss(x, torch.tensor([0, 0, 1]), beta=beta, normalize=False, reduction="sum")
    >>> loss.backward()
    >>> round(loss.item(), 4), beta.grad.item()  # twice 1 − 1 + 0.2, once 1 − 0.5 + 0.2
    (1.1, -1.0)
    """
    normalize = check_common(reduction, normalize, metric)
    margin, nu = check_margin_options(margin, nu)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    border = check_border(beta, labels, embeddings).to(accumulation_dtype(embeddings.dtype))
    per_class = border.dim() == 1
    # embedding, unlike indexing, adds up the gradients of a class in a fixed order
    own = (
        functional.embedding(labels, border.unsqueeze(1)).squeeze(1)
        if labels is not None and per_class
        else border.expand(embeddings.shape[0])
    )
    pairs = pair_rows(
        PairTerm("margin_loss", "margin", (float(margin),)),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric,
        normalize,
        inputs=own.unsqueeze(0),
    )
    rows = over_triplets(pairs)
    if nu == 0:
        return reduce(*rows, reduction)
    if per_class:
        return reduce(rows.sums + nu * rows.counts * own, rows.counts, rows.active, reduction)
    return reduce(*rows, reduction) + nu * border * rows.counts.any()


def check_margin_options(margin: float, nu: float) -> tuple[float, float]:
    """The options; raise for those that the margin loss cannot mean."""
    return check_number("margin", margin), check_number("nu", nu)

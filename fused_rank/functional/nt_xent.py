"""NT-Xent as a function."""

from torch import Tensor

from ..ops.negatives import against_negatives
from ..ops.option_checks import check_positive
from ..ops.options import Reduction
from ..ops.reduction import reduce
from ..ops.rows import widened
from ..ops.validation import check_pairs
from .common import check_common


def nt_xent_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
) -> Tensor:
    """NT-Xent; see `fused_rank.NTXentLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = nt_xent_loss(x, torch.tensor([0, 0, 1]), temperature=1.0)
    >>> round(float(loss), 4)  # log(1 + exp(0 − 1))
    0.3133
    """
    check_common(reduction)
    temperature = check_positive("temperature", temperature)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    x, others = widened(embeddings, gallery)
    data = (x, labels, others, gallery_labels)
    rows = against_negatives("nt_xent_loss", *data, "cosine", True, -1 / temperature)
    return reduce(*rows, reduction)

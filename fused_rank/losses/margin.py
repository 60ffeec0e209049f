"""Margin loss."""

from typing import Any

import torch
from torch import Tensor, nn

from ..functional.margin import check_margin_options, margin_loss
from ..ops.option_checks import check_count, check_flag, check_number
from ..ops.options import Metric, Reduction
from ._base import DistanceLoss


class MarginLoss(DistanceLoss):
    r"""Margin loss (Wu, Manmatha, Smola and Krähenbühl, "Sampling Matters in Deep Embedding Learning", ICCV 2017),
    over all triplets of a query a, a positive p and a negative n, with distances d and the query's border β::

        max(0, d_ap − β + margin) + max(0, β − d_an + margin)

    Each triplet is two pairs, so it is computed from pairs: a positive pair counts as often as its query has
    negatives, and the other way round. β is one number or one a class (of the query), and may be learned.

    Args:
        margin: half the gap between the farthest positive and the nearest negative; 0.2 as in the paper.
        nu: weight of β, which a learned β needs lest it grow: ``nu · β`` is added to the loss, and for one β a
            class ``nu · β`` of its query to every triplet (pytorch-metric-learning's rule).
        beta: the border, or where the learned one starts; 1.2 as in the paper.
        learn_beta: make `beta` a parameter of the module.
        num_classes: with C, `beta` is a tensor [C] indexed by the labels, which must lie in [0, C); with a
            gallery they are the queries'. None: one number.
        normalize: divide rows by their norms first; a zero row stays zero and gets no gradient.
        metric: ``"euclidean"``, ``"sqeuclidean"``, or ``"cosine"`` (1 − cos, always normalised).
        reduction: ``"mean_active"``, the paper's and pytorch-metric-learning's: the sum over the number of
            hinges above zero; ``"mean"`` over all triplets; ``"sum"``; ``"none"``: [M], the mean over each
            query's triplets.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a query without a positive or without a negative gives 0 and is not counted; no triplet
    at all gives 0 with zero gradient. A non-finite row gives a NaN loss. At zero distance the gradient is zero.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import MarginLoss
    >>> x = torch.tensor([[0.0], [1.0], [1.5]])
    >>> loss_fn = MarginLoss(beta=1.0, learn_beta=True, normalize=False, reduction="sum")
    >>> loss = loss_fn(x, torch.tensor([0, 0, 1]))
    >>> loss.backward()
    >>> round(loss.item(), 4), loss_fn.beta.grad.item()  # twice 1 − 1 + 0.2, once 1 − 0.5 + 0.2
    (1.1, -1.0)
    """

    _function = staticmethod(margin_loss)
    _options = ("margin", "nu", "learn_beta", "num_classes")

    beta: float | Tensor

    def __init__(
        self,
        margin: float = 0.2,
        nu: float = 0.0,
        beta: float = 1.2,
        *,
        learn_beta: bool = False,
        num_classes: int | None = None,
        normalize: bool = True,
        metric: Metric = "euclidean",
        reduction: Reduction = "mean_active",
    ) -> None:
        super().__init__(normalize=normalize, metric=metric, reduction=reduction)
        self.margin, self.nu = check_margin_options(margin, nu)
        beta = check_number("beta", beta)
        self.learn_beta = learn_beta = check_flag("learn_beta", learn_beta)
        if num_classes is not None:
            num_classes = check_count("num_classes", num_classes)
        self.num_classes = num_classes
        if num_classes is None and not learn_beta:
            self.beta = beta
            return
        border = torch.full([] if num_classes is None else [num_classes], float(beta))
        if learn_beta:
            self.beta = nn.Parameter(border)
        else:
            self.register_buffer("beta", border)

    def extra_repr(self) -> str:
        """Every option as keyword=value, β as it is now."""
        beta = self.beta.detach() if isinstance(self.beta, Tensor) else torch.tensor(self.beta)
        border = f"{float(beta):g}" if beta.dim() == 0 else f"[{self.num_classes} numbers]"
        return f"beta={border}, {super().extra_repr()}"

    def _keywords(self) -> dict[str, Any]:
        """The border as it stands; ν weighs it only where it is learned."""
        nu = self.nu if self.learn_beta else 0.0
        geometry = {"normalize": self.normalize, "metric": self.metric, "reduction": self.reduction}
        return {"margin": self.margin, "nu": nu, "beta": self.beta, **geometry}

"""Supervised contrastive loss and InfoNCE."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..functional import info_nce_loss, sup_con_loss
from ..ops.option_checks import check_flag, check_number, check_positive
from ..ops.options import Reduction
from ._base import RankingLoss

_COLDEST = 0.01  # a learned temperature's, CLIP's


def _bounded(log_temperature: Tensor) -> Tensor:
    """No lower than the bound; the gradient is that at the bound, so that a parameter beyond it comes back."""
    return log_temperature + (log_temperature.clamp(min=math.log(_COLDEST)) - log_temperature).detach()


def _start(temperature: float, *, learned: bool) -> float:
    """A temperature of the user's, checked; a learned one starts within its bound."""
    if not learned:
        return check_positive("temperature", temperature)
    return check_number("temperature", temperature, minimum=_COLDEST, where=" where it is learned")


class SupConLoss(RankingLoss):
    r"""Supervised contrastive loss (Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, L_out).

    For query i with cosine similarities s_j, over its positives p ∈ P and all its pairs j (positives and
    negatives, itself left out)::

        L_i = log Σ_j exp(s_j / T) − (1 / |P|) Σ_p s_p / T

    The default is the paper's and pytorch-metric-learning 2.9.0's, whose value this is: its mean over losses
    above zero is the mean over queries with a positive.

    Args:
        temperature: T, above 0. Any value is safe from overflow.
        reduction: ``"mean"`` over the queries that have a positive; ``"mean_active"`` over those with L_i > 0;
            ``"sum"``; ``"none"`` for [M].

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a query without positives counts as nothing, one without negatives has the softmax over
    its positives alone (0 if it has one); no query with a positive gives 0 with zero gradient. A zero row has
    similarity ½ to unit rows, as 1 − |x − y|² / 2 has, and gets no gradient. A non-finite row gives a NaN loss.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import SupConLoss
    >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
    >>> loss = SupConLoss(temperature=0.5)(x, torch.tensor([0, 0, 1, 1]))
    >>> round(loss.item(), 4)
    0.4302
    """

    _function = staticmethod(sup_con_loss)
    _options = ("temperature",)

    def __init__(self, temperature: float = 0.1, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.temperature = check_positive("temperature", temperature)


class InfoNCELoss(RankingLoss):
    r"""InfoNCE (van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding",
    2018) between two sets; symmetric, the loss of CLIP (Radford et al., 2021).

    For query i with cosine similarities s_j to the gallery, over its positives p ∈ P (without labels: gallery
    row i) and all gallery rows j::

        L_i = log Σ_j exp(s_j / T) − (1 / |P|) Σ_p s_p / T

    ``symmetric=True`` adds the gallery's rows as queries of the embeddings; both directions come from one
    sweep, and with equally many rows the mean is CLIP's ½ (query→gallery + gallery→query). The default
    temperature is that of MoCo and of pytorch-metric-learning's NTXentLoss, and where CLIP starts.

    Args:
        temperature: T, above 0. Any value is safe from overflow.
        learn_temperature: the module's `log_temperature` is a parameter, as CLIP's logit scale is; it starts at
            log(temperature), and T stays at 0.01 or above, where CLIP clips it; below, the gradient is that at
            0.01. A zero row then has similarity 0.
        symmetric: the gallery's rows have losses too, over the embeddings.
        reduction: ``"mean"`` over the rows that have a positive; ``"mean_active"`` over those with a loss above
            0; ``"sum"``; ``"none"`` for [M], symmetric [M + N]: the queries', then the gallery's.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype, or neither. The loss is float64 for float64 input and
    float32 otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's
    dtype. A side that does not require grad costs no gradient work.

    Degenerate input: a row without positives counts as nothing; none with a positive gives 0 with zero
    gradient. A zero row has similarity ½ to unit rows, as 1 − |x − y|² / 2 has, and gets no gradient. A
    non-finite row gives a NaN loss.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import InfoNCELoss
    >>> images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> texts = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    >>> round(InfoNCELoss(temperature=1.0, symmetric=True)(images, gallery=texts).item(), 4)
    0.5368
    """

    _options = ("temperature", "learn_temperature", "symmetric")

    log_temperature: nn.Parameter | None

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learn_temperature: bool = False,
        symmetric: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.learn_temperature = check_flag("learn_temperature", learn_temperature)
        self._temperature = temperature = _start(temperature, learned=self.learn_temperature)
        self.log_temperature = (
            nn.Parameter(torch.tensor(math.log(temperature))) if self.learn_temperature else None
        )
        self.symmetric = check_flag("symmetric", symmetric)

    @property
    def temperature(self) -> float:
        """T as it is now."""
        if self.log_temperature is None:
            return self._temperature
        return max(_COLDEST, math.exp(float(self.log_temperature.detach())))

    def _shown(self) -> dict[str, Any]:
        return {**super()._shown(), "temperature": float(f"{self.temperature:.6g}")}

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        gallery: Tensor | None = None,
        gallery_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of embeddings against a gallery.

        Args:
            embeddings: queries [M, D].
            labels: integers [M]; leaving out both labels means that row i's only positive is gallery row i.
            gallery: [N, D] to compare with; it has to be given.
            gallery_labels: integers [N].
        """
        learned = self.log_temperature
        return info_nce_loss(
            embeddings,
            labels,
            gallery=gallery,
            gallery_labels=gallery_labels,
            temperature=self.temperature if learned is None else _bounded(learned).exp(),
            symmetric=self.symmetric,
            reduction=self.reduction,
        )

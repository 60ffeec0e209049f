"""What every loss module shares."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..ops.option_checks import check_choice, check_flag
from ..ops.options import METRICS, REDUCTIONS, Metric, Reduction


class RankingLoss(nn.Module):
    """The reduction, common to all losses, the call of the functional twin, and a repr that shows every option."""

    _function: Callable[..., Tensor]  # the twin, which takes every option as a keyword of its name
    _options: tuple[str, ...] = ()
    _geometry: tuple[str, ...] = ()

    def __init__(self, *, reduction: Reduction) -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction: Reduction = reduction

    def _shown(self) -> dict[str, Any]:
        names = (*self._options, *self._geometry, "reduction")
        return {name: getattr(self, name) for name in names}

    def _keywords(self) -> dict[str, Any]:
        """What the functional twin is called with."""
        return self._shown()

    def extra_repr(self) -> str:
        """Every option as keyword=value."""
        return ", ".join(f"{name}={value!r}" for name, value in self._shown().items())

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        gallery: Tensor | None = None,
        gallery_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of embeddings against each other, or against a gallery.

        Args:
            embeddings: queries [M, D].
            labels: integers [M]. With a gallery, leaving out both labels means that row i's only positive is
                gallery row i.
            gallery: [N, D] to compare with; None means all the other embeddings.
            gallery_labels: integers [N].
        """
        return self._function(
            embeddings, labels, gallery=gallery, gallery_labels=gallery_labels, **self._keywords()
        )


class DistanceLoss(RankingLoss):
    """A loss of distances, in a metric of the caller's choice."""

    _geometry = ("normalize", "metric")

    def __init__(self, *, normalize: bool, metric: Metric, reduction: Reduction) -> None:
        super().__init__(reduction=reduction)
        check_choice("metric", metric, METRICS)
        self.normalize = check_flag("normalize", normalize)
        self.metric: Metric = metric

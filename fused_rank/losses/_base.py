"""What every loss module shares."""

from torch import nn

from ..ops.options import METRICS, REDUCTIONS, Metric, Reduction
from ..ops.validation import check_choice, check_flag


class RankingLoss(nn.Module):
    """The reduction, common to all losses, and a repr that shows every option."""

    _options: tuple[str, ...] = ()
    _geometry: tuple[str, ...] = ()

    def __init__(self, *, reduction: Reduction) -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction: Reduction = reduction

    def extra_repr(self) -> str:
        """Every option as keyword=value."""
        names = (*self._options, *self._geometry, "reduction")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


class DistanceLoss(RankingLoss):
    """A loss of distances, in a metric of the caller's choice."""

    _geometry = ("normalize", "metric")

    def __init__(self, *, normalize: bool, metric: Metric, reduction: Reduction) -> None:
        super().__init__(reduction=reduction)
        check_flag("normalize", normalize)
        check_choice("metric", metric, METRICS)
        self.normalize = normalize
        self.metric: Metric = metric

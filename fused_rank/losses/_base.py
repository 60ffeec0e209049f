"""What every loss module shares."""

from torch import nn

from ..ops.options import METRICS, REDUCTIONS, Metric, Reduction
from ..ops.validation import check_choice, check_flag


class RankingLoss(nn.Module):
    """Options common to all losses, and a repr that shows every option."""

    _options: tuple[str, ...] = ()

    def __init__(self, *, normalize: bool, metric: Metric, reduction: Reduction) -> None:
        super().__init__()
        check_flag("normalize", normalize)
        check_choice("metric", metric, METRICS)
        check_choice("reduction", reduction, REDUCTIONS)
        self.normalize = normalize
        self.metric: Metric = metric
        self.reduction: Reduction = reduction

    def extra_repr(self) -> str:
        """Every option as keyword=value."""
        names = (*self._options, "normalize", "metric", "reduction")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

"""What every loss module shares."""

from torch import nn

from ..ops.options import METRICS, REDUCTIONS, Metric, Reduction
from ..ops.validation import check_choice, check_flag


class RankingLoss(nn.Module):
    """Options common to the losses, and a repr that shows every option. None: the loss leaves no such choice."""

    _options: tuple[str, ...] = ()

    normalize: bool
    metric: Metric
    reduction: Reduction

    def __init__(
        self, *, reduction: Reduction, normalize: bool | None = None, metric: Metric | None = None
    ) -> None:
        super().__init__()
        if normalize is not None:
            check_flag("normalize", normalize)
            self.normalize = normalize
        if metric is not None:
            check_choice("metric", metric, METRICS)
            self.metric = metric
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction = reduction

    def extra_repr(self) -> str:
        """Every option as keyword=value."""
        names = (
            *self._options,
            *(name for name in ("normalize", "metric") if hasattr(self, name)),
            "reduction",
        )
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

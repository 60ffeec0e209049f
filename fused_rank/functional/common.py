"""Checks that the losses share."""

from ..ops.options import METRICS, REDUCTIONS, Metric, Reduction
from ..ops.validation import check_choice, check_flag


def check_common(reduction: Reduction, normalize: bool = True, metric: Metric = "euclidean") -> None:
    """The options that most losses have."""
    check_choice("metric", metric, METRICS)
    check_flag("normalize", normalize)
    check_choice("reduction", reduction, REDUCTIONS)

"""Checks that the losses share."""

from ..ops.option_checks import check_choice, check_flag
from ..ops.options import METRICS, REDUCTIONS, Metric, Reduction


def check_common(reduction: Reduction, normalize: bool = True, metric: Metric = "euclidean") -> bool:
    """The options that most losses have; returns `normalize`."""
    check_choice("metric", metric, METRICS)
    check_choice("reduction", reduction, REDUCTIONS)
    return check_flag("normalize", normalize)

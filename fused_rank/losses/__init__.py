"""Losses as modules, one file a family."""

from .contrastive import ContrastiveLoss
from .ranked_list import RankedListLoss
from .triplet import TripletMarginLoss

__all__ = ["ContrastiveLoss", "RankedListLoss", "TripletMarginLoss"]

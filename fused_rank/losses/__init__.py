"""Losses as modules, one file a family."""

from .contrastive import ContrastiveLoss
from .ranked_list import RankedListLoss
from .sup_con import InfoNCELoss, SupConLoss
from .triplet import TripletMarginLoss

__all__ = ["ContrastiveLoss", "InfoNCELoss", "RankedListLoss", "SupConLoss", "TripletMarginLoss"]

"""Losses as modules, one file a family."""

from .angular import AngularLoss
from .circle import CircleLoss
from .contrastive import ContrastiveLoss
from .lifted import GeneralizedLiftedStructureLoss
from .margin import MarginLoss
from .multi_similarity import MultiSimilarityLoss
from .n_pairs import NPairsLoss
from .nt_xent import NTXentLoss
from .ranked_list import RankedListLoss
from .sup_con import InfoNCELoss, SupConLoss
from .triplet import TripletMarginLoss

__all__ = [
    "AngularLoss",
    "CircleLoss",
    "ContrastiveLoss",
    "GeneralizedLiftedStructureLoss",
    "InfoNCELoss",
    "MarginLoss",
    "MultiSimilarityLoss",
    "NPairsLoss",
    "NTXentLoss",
    "RankedListLoss",
    "SupConLoss",
    "TripletMarginLoss",
]

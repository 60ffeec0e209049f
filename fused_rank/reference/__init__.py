"""Eager oracles, one file a loss: the documentation of what is computed, the tests' truth and the benchmark's baseline.

They build the [M, N] matrices that the rest of the library avoids, trust their arguments, and run in the
precision of the input (fp64 in, fp64 out). `pairwise` replaces the distance matrix, for instance by one of
direct differences.
"""

from .angular import angular_loss
from .circle import circle_loss
from .contrastive import contrastive_loss
from .lifted import lifted_structure_loss
from .margin import margin_loss
from .multi_similarity import multi_similarity_loss
from .n_pairs import n_pairs_loss
from .nt_xent import nt_xent_loss
from .ranked_list import ranked_list_loss
from .sup_con import info_nce_loss, sup_con_loss
from .triplet import triplet_margin_loss

__all__ = [
    "angular_loss",
    "circle_loss",
    "contrastive_loss",
    "info_nce_loss",
    "lifted_structure_loss",
    "margin_loss",
    "multi_similarity_loss",
    "n_pairs_loss",
    "nt_xent_loss",
    "ranked_list_loss",
    "sup_con_loss",
    "triplet_margin_loss",
]

"""The definitions in fp64, by direct difference: what the operations are held against.

Independent of the library's own arithmetic. Each loss gives per query its value and its gap: the distance from its
nearest decision (a hinge's corner, a set's edge, a tie), below whose rounding error fp32 may decide otherwise.
Every query of a check has negatives; some have no positive.
"""

from .geometry import Rows, distances, first_pairs, masks, similarities, unit
from .hinges import TRIPLET_MARGIN, contrastive, margin, ranked_list, semihard_choice, triplets
from .retrieval import ranked, retrieval_measures, sampling_weights
from .softmax import angular, circle, info_nce, lifted, multi_similarity, n_pairs, nt_xent, sup_con

__all__ = [
    "TRIPLET_MARGIN",
    "Rows",
    "angular",
    "circle",
    "contrastive",
    "distances",
    "first_pairs",
    "info_nce",
    "lifted",
    "margin",
    "masks",
    "multi_similarity",
    "n_pairs",
    "nt_xent",
    "ranked",
    "ranked_list",
    "retrieval_measures",
    "sampling_weights",
    "semihard_choice",
    "similarities",
    "sup_con",
    "triplets",
    "unit",
]

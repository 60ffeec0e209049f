"""Which pairs and triplets to learn from, as indices, and how many of which kind there are.

The losses mine for themselves and never store these.
"""

from .batch import hard, partners, semihard
from .data_set import offline
from .results import HardIndices, Partners, Triplets
from .sampling import distance_weighted, random
from .statistics import TripletStats, triplet_stats

__all__ = [
    "HardIndices",
    "Partners",
    "TripletStats",
    "Triplets",
    "distance_weighted",
    "hard",
    "offline",
    "partners",
    "random",
    "semihard",
    "triplet_stats",
]

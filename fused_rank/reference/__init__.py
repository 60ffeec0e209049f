"""Eager oracles, one file a loss: the documentation of what is computed, the tests' truth and the benchmark's baseline.

They build the [M, N] matrices that the rest of the library avoids, trust their arguments, and run in the
precision of the input (fp64 in, fp64 out). `pairwise` replaces the distance matrix, for instance by one of
direct differences.
"""

from .contrastive import contrastive_loss
from .ranked_list import ranked_list_loss
from .sup_con import info_nce_loss, sup_con_loss
from .triplet import triplet_margin_loss

__all__ = ["contrastive_loss", "info_nce_loss", "ranked_list_loss", "sup_con_loss", "triplet_margin_loss"]

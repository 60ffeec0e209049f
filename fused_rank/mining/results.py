"""What miners return."""

from typing import NamedTuple

from torch import Tensor


class HardIndices(NamedTuple):
    """Hardest partners of each anchor, int64 [M]; −1 where there is none."""

    positive: Tensor
    negative: Tensor


class Partners(NamedTuple):
    """One positive and one negative of each anchor, int64 [M]; −1 where there is none."""

    positive: Tensor
    negative: Tensor


class Triplets(NamedTuple):
    """Triplets as int64 indices, each [L]: anchors index the embeddings, the others the gallery."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor

"""What a sweep knows of a loss: its mathematics on a tile, as functions that kernels call."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Term:
    """A loss as kernels take it: `TERM: tl.constexpr`. d is a tile of distances [BM, BN], p the parameters.

    Rows are tuples of vectors [BM]: `row_members` accumulators, then whatever of the query's inputs folding needs,
    which stays as `start` put it. Scales are tuples of what slopes need of a query, its statistics times its upstream
    gradient, shaped to broadcast with d.
    """

    name: str
    row_members: int
    scale_members: int
    state_rows: int  # what `finish` keeps and `scale` and `input_gradient` need
    inputs: int = 0  # numbers per query that enter the loss beside its pairs
    # negatives contribute nothing: only tiles with positives are visited, and no function of negatives is called
    positives_only: bool = False
    # slopes at `unit` times the first two scale members are slopes: the gradient can come before the statistics
    separable: bool = False
    start: Any  # (BM, inputs, p) -> row of nothing; inputs: a tuple of vectors [BM]
    fold_positive: Any  # (row, d, mask, p) -> row
    fold_negative: Any = None
    merge: Any  # (row, accumulators, p) -> row
    active_positive: Any  # (row, d, p) -> does a positive at d contribute? Dead tiles are passed over
    active_negative: Any = None
    finish: Any  # (row, positives, negatives, p) -> (sums, counts, active, state): tuples by channel; state may be (0,)
    scale: Any  # (state, grads by channel, p) -> scale
    unit: Any = None  # (like, p) -> scale of upstream and statistics 1; for separable terms
    slope_positive: Any  # (d, scale, p) -> d loss / d distance
    slope_negative: Any = None
    input_gradient: Any = None  # (state, grads by channel, p) -> d loss / d input of each of `inputs`

    @property
    def cache_key(self) -> str:
        """What compilations depend on, as triton asks of constants that hold functions."""
        values = (getattr(self, name) for name in self.__dataclass_fields__)
        return "".join(str(getattr(value, "cache_key", value)) for value in values)

    def __repr__(self) -> str:
        return self.name

"""Mined triplets and their losses: hard by the selection sweep, semi-hard by the rank sweep."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpu.edges import Edges, lost_rows, to_metric
from ..gpu.order import LabelOrder, order_by_label, positive_of
from ..ops.options import METRICS, Metric
from ..ops.schemas import triplet_state_rows
from ..reference.distance import accumulation_dtype
from . import kernels
from .distances import fill_strip
from .listed import add_edges, edge_factors, listed_squares
from .operand import Packed, pack
from .rows import Rows, describe
from .strips import Strip, strips

_TRIPLETS = 1 << 18  # mined, at a time
_KEPT = triplet_state_rows("semihard")  # slots of an anchor that forward keeps for backward


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments that all triplet operators share, and the order of the rows."""

    x: Tensor
    gallery: Tensor | None
    order: LabelOrder
    metric: Metric
    unit_rows: bool
    margin: float = 0.0
    soft: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of distances and results."""
        return accumulation_dtype(self.x.dtype)

    @property
    def anchors(self) -> int:
        return self.x.shape[0]

    @property
    def columns(self) -> int:
        return self.order.gallery.shape[0]

    def packed(self) -> Packed:
        return pack(self.x, self.gallery, self.order, unit_rows=self.unit_rows)

    def sources(self) -> tuple[Rows, Rows]:
        """Both sides as they came; in self form one object."""
        query = describe(self.x, self.unit_rows)
        return query, query if self.gallery is None else describe(self.gallery, self.unit_rows)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return self.x.new_empty(shape, dtype=dtype or self.dtype)

    def unsort(self, rows: Tensor) -> Tensor:
        """[k, M] from the order of sorted anchors to that of the caller."""
        result = torch.empty_like(rows)
        result[:, self.order.query] = rows
        return result

    def rank(
        self,
        kernel: str,
        strip: Strip,
        arrays: list[Tensor | None],
        sizes: tuple[int, ...] = (),
        *,
        band: bool = False,
    ) -> None:
        """Runs a kernel of the rank sweep on a strip of distances."""
        code = METRICS.index(self.metric)
        flags = (int(self.order.self_form), int(self.soft), int(band))
        kernels.run(
            kernel,
            [strip.values, self.order.begin, self.order.end, *arrays],
            [*strip.sizes, self.anchors, code, *flags, *sizes],
            [self.margin],
        )


def problem_of(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: Metric,
    normalize: bool,
    margin: float = 0.0,
    soft: bool = False,
) -> Problem:
    """Rows in label order."""
    others = x if gallery is None else gallery
    order = order_by_label(labels, gallery_labels, x.shape[0], others.shape[0], x.device)
    return Problem(x, gallery, order, metric, normalize or metric == "cosine", margin, soft)


def mine_hard(problem: Problem) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative of each anchor, int64 [M], -1 for none."""
    packed = problem.packed()
    arrays, sizes = packed.arguments(problem.order, problem.metric)
    shape = (problem.anchors, problem.columns, int(packed.self_form))
    (workspace,) = kernels.ask("hard_workspace", packed.dtype, shape)
    found = problem.empty(2, problem.anchors, dtype=torch.int64)
    kernels.run("hard", [*arrays, problem.empty(workspace, dtype=torch.uint8), *found], sizes)
    positive, negative = problem.unsort(found)
    return positive.clone(), negative.clone()  # results of an operator share no memory


def _squares(problem: Problem, packed: Packed) -> Iterator[Strip]:
    """Every strip, filled with squared distances."""
    for strip in strips(packed, near=False):
        fill_strip(packed, problem.order, problem.metric, strip, square=True)
        yield strip


def _semihard(
    problem: Problem,
    strip: Strip,
    negative: Tensor,
    offset: Tensor,
    slots: int,
    slot_stride: int,
    rows: Tensor | None = None,
) -> None:
    """Each slot's negative of a strip's anchors into `negative`, at offset[anchor] + slot · slot_stride."""
    problem.rank(
        "semihard",
        strip,
        [problem.order.gallery, offset, negative, rows],
        (slot_stride, slots, negative.numel()),
    )


def mine_semihard(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Triplets [L] by anchor, then by positive."""
    order = problem.order
    count = torch.empty_like(order.positive_count)
    count[order.query] = order.positive_count
    start = count.cumsum(0) - count  # by original anchor
    length = int(count.sum())
    negative = problem.empty(length, dtype=torch.int32)
    offset = start[order.query]
    for strip in _squares(problem, problem.packed()) if length > 0 else ():
        _semihard(problem, strip, negative, offset, problem.columns, 1)
    anchor = torch.arange(problem.anchors, device=count.device).repeat_interleave(count, output_size=length)
    slot = torch.arange(length, device=count.device) - start[anchor]
    positive = positive_of(order, order.query.argsort()[anchor], slot)
    found = negative >= 0
    return anchor[found], positive[found], negative[found].long()


def hard_forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """Rows [3, M] and the state [2, M]: the positive's and the negative's row, -1 for none."""
    query, gallery = problem.sources()
    positive, negative = mine_hard(problem)
    valid = (positive >= 0) & (negative >= 0)
    anchor = torch.arange(problem.anchors, device=valid.device)
    ap = to_metric(listed_squares(query, gallery, anchor, positive.clamp(min=0)), problem.metric)
    an = to_metric(listed_squares(query, gallery, anchor, negative.clamp(min=0)), problem.metric)
    violation = ap - an + problem.margin
    loss = torch.nn.functional.softplus(violation) if problem.soft else violation.relu()
    loss = loss.masked_fill(~valid, 0).masked_fill(lost_rows(query, gallery), torch.nan)
    active = valid if problem.soft else loss > 0
    rows = torch.stack((loss, valid.to(loss.dtype), active.to(loss.dtype))).to(problem.dtype)
    return rows, torch.stack((positive, negative)).to(problem.dtype)


def semihard_forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """Rows [3, M] and the state [64, M]: the negative's row of each slot of a sorted anchor, -1 for none."""
    packed = problem.packed()
    rows = problem.empty(3, problem.anchors)
    negative = problem.empty(_KEPT, problem.anchors, dtype=torch.int32)
    offset = torch.arange(problem.anchors, device=rows.device)
    for strip in _squares(problem, packed):
        _semihard(problem, strip, negative, offset, _KEPT, problem.anchors, rows)
    rows = problem.unsort(rows)
    rows[0].masked_fill_(packed.query.lost, torch.nan)
    return rows, negative.to(problem.dtype)


def mined_backward(
    problem: Problem,
    grad_sums: Tensor,
    state: Tensor,
    active: Tensor,
    need_x: bool,
    need_gallery: bool,
    *,
    hard: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both sides from the mined triplets of anchors that are `active`, bool [M]: O(triplets · D)."""
    query, gallery = problem.sources()
    to_query = torch.zeros_like(query.exact) if need_x else None
    to_gallery = torch.zeros_like(gallery.exact) if need_gallery else None
    upstream = grad_sums.flatten().double()
    mined = _hard_triplets(state, active) if hard else _semihard_triplets(problem, state, active)
    for anchor, positive, negative in mined:
        ap, an = (listed_squares(query, gallery, anchor, other) for other in (positive, negative))
        violation = to_metric(ap, problem.metric) - to_metric(an, problem.metric) + problem.margin
        slope = upstream[anchor] * (violation.sigmoid() if problem.soft else (violation > 0).double())
        coefficient = (
            slope * edge_factors(ap, problem.metric),
            -slope * edge_factors(an, problem.metric),
        )
        edges = Edges(anchor.repeat(2), torch.cat((positive, negative)), torch.cat(coefficient))
        add_edges(edges, query, gallery, to_query, to_gallery)
    return tuple(  # type: ignore[return-value]
        None
        if total is None
        else own.project(total)
        .masked_fill_(lost_rows(own, gallery).unsqueeze(1), torch.nan)
        .to(own.source.dtype)
        for own, total in ((query, to_query), (gallery, to_gallery))
    )


def _hard_triplets(state: Tensor, active: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    positive, negative = state.long().unbind(0)
    anchor = ((positive >= 0) & (negative >= 0) & active).nonzero().squeeze(1)
    yield anchor, positive[anchor], negative[anchor]


def _semihard_triplets(
    problem: Problem, state: Tensor, active: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Triplets of the anchors, some at a time; classes too large for the state are mined again."""
    order = problem.order
    slots = int(order.positive_count.max()) if problem.anchors > 0 else 0
    step = max(1, _TRIPLETS // max(slots, 1))
    if slots <= _KEPT:
        for first in range(0, problem.anchors, step):
            yield from _triplets(order, first, state[:slots, first : first + step], active)
        return
    offset = torch.arange(problem.anchors, device=state.device)
    for strip in _squares(problem, problem.packed()):
        for first in range(strip.first, strip.first + strip.rows, step):
            rows = min(step, strip.first + strip.rows - first)
            part = Strip(
                first, rows, 0, strip.columns, strip.values[first - strip.first :][:rows], None, None
            )
            negative = problem.empty(slots, rows, dtype=torch.int32)
            _semihard(problem, part, negative, offset - first, slots, rows)
            yield from _triplets(order, first, negative, active)


def _triplets(
    order: LabelOrder, first: int, negative: Tensor, active: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The triplets of anchors from sorted position `first` on; negative [slots, anchors] holds rows of the gallery."""
    slots, anchors = negative.shape
    slot = torch.arange(slots, device=negative.device).unsqueeze(1)
    count = order.positive_count[first : first + anchors]
    anchor = order.query[first : first + anchors]
    slot, at = ((slot < count) & (negative >= 0) & active[anchor]).nonzero().unbind(1)
    yield anchor[at], positive_of(order, first + at, slot), negative[slot, at].long()

"""Mined triplets and their losses: hard by the selection sweep, the others by the rank sweep."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from ..gpu.edges import Edges, lost_rows, to_metric
from ..gpu.order import LabelOrder, order_by_label, positive_of
from .configs import blocks
from .every_triplet import all_backward_kernel, all_forward_kernel
from .launch import launch
from .listed import Source, add_edges, edge_factors, listed_squares, source_of
from .operand import Packed, pack
from .ranks import STATE_SLOTS, semihard_kernel
from .selection import hardest
from .strip import Strip, fill_strip, strips
from .strip_pull import Coefficients, add_strip

_EDGES = 1 << 20  # mined pairs at a time


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments that all triplet operators share, and the order of the rows."""

    x: Tensor
    gallery: Tensor | None
    order: LabelOrder
    metric: str
    unit: bool
    margin: float = 0.0
    soft: bool = False

    @property
    def anchors(self) -> int:
        return self.x.shape[0]

    @property
    def columns(self) -> int:
        return self.order.gallery.shape[0]

    def packed(self) -> Packed:
        return pack(self.x, self.gallery, self.order, unit_rows=self.unit)

    def sources(self) -> tuple[Source, Source]:
        """Both sides as they came; in self form one object."""
        query = source_of(self.x, unit=self.unit)
        return query, query if self.gallery is None else source_of(self.gallery, unit=self.unit)

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=self.x.device)


def problem_of(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
    margin: float = 0.0,
    soft: bool = False,
) -> Problem:
    """Rows in label order."""
    others = x if gallery is None else gallery
    order = order_by_label(labels, gallery_labels, x.shape[0], others.shape[0], x.device)
    return Problem(x, gallery, order, metric, normalize or metric == "cosine", margin, soft)


def _rank(
    problem: Problem, kernel: object, strip: Strip, constexprs: dict[str, object], **arguments: object
) -> None:
    """Launches a kernel of ranks.py on the anchors of a strip."""
    block = blocks("rank")
    launch(
        kernel,
        (triton.cdiv(strip.rows, block.shape["ROWS"]),),
        {
            "Begin": problem.order.begin,
            "End": problem.order.end,
            "stride": strip.stride,
            "margin": float(problem.margin),
            "first": strip.first,
            "rows": strip.rows,
            "columns": problem.columns,
            "anchors": problem.anchors,
            **arguments,
        },
        {
            "METRIC": problem.metric,
            "SOFT": problem.soft,
            "SELF": problem.order.self_form,
            **constexprs,
            **block.shape,
        },
        **block.options,
    )


def _filled(problem: Problem, packed: Packed) -> Iterator[tuple[Strip, Tensor]]:
    """Every strip with its squared distances."""
    for strip in strips(problem.anchors, problem.columns):
        square = problem.empty(*strip.shape)
        fill_strip(packed, strip, square)
        yield strip, square


def _semihard(
    problem: Problem,
    strip: Strip,
    square: Tensor,
    negative: Tensor,
    offset: Tensor,
    slots: int,
    slot_stride: int,
    rows: Tensor,
) -> None:
    _rank(
        problem,
        semihard_kernel,
        strip,
        {},
        Square=square,
        Number=problem.order.gallery.int(),
        Offset=offset,
        Negative=negative,
        Rows=rows,
        slot_stride=slot_stride,
        slots=slots,
    )


def mine_hard(problem: Problem) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative of each anchor, int64 [M], -1 for none."""
    return hardest(problem.packed(), problem.order)


def mine_semihard(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Triplets [L] by anchor, then by positive."""
    order = problem.order
    count = torch.empty_like(order.positive_count)
    count[order.query] = order.positive_count
    start = count.cumsum(0) - count  # by original anchor
    length = int(count.sum())
    negative = problem.empty(length, dtype=torch.int32)
    rows = problem.empty(3, problem.anchors)
    offset = start[order.query]
    for strip, square in _filled(problem, problem.packed()):
        _semihard(problem, strip, square, negative, offset, problem.columns, 1, rows)
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
    rows = torch.stack((loss, valid.to(loss.dtype), active.to(loss.dtype))).float()
    return rows, torch.stack((positive, negative)).float()


def semihard_forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """Rows [3, M] and the state [64, M]: the negative's row of each slot of a sorted anchor, -1 for none."""
    packed = problem.packed()
    rows, state = problem.empty(3, problem.anchors), problem.empty(STATE_SLOTS, problem.anchors)
    offset = torch.arange(problem.anchors, device=state.device)
    for strip, square in _filled(problem, packed):
        _semihard(problem, strip, square, state, offset, STATE_SLOTS, problem.anchors, rows)
    return _as_given(rows, packed, problem.order), state


def all_forward(problem: Problem, *, band: bool) -> tuple[Tensor, Tensor]:
    """Rows [3, M] and the state [64, M]: the slopes of each slot of a sorted anchor."""
    packed = problem.packed()
    rows, state = problem.empty(3, problem.anchors), problem.empty(STATE_SLOTS, problem.anchors)
    for strip, square in _filled(problem, packed):
        _rank(problem, all_forward_kernel, strip, {"BAND": band}, Square=square, Rows=rows, Slopes=state)
    return _as_given(rows, packed, problem.order), state


def _as_given(rows: Tensor, packed: Packed, order: LabelOrder) -> Tensor:
    result = torch.empty_like(rows)
    result[:, order.query] = rows
    result[0].masked_fill_(packed.query.lost, torch.nan)
    return result


def all_backward(
    problem: Problem, grad_sums: Tensor, state: Tensor, need_x: bool, need_gallery: bool, *, band: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both sides: distances of a strip become coefficients, which are multiplied out."""
    packed, order = problem.packed(), problem.order
    upstream = grad_sums.flatten()[order.query]
    width = packed.query.width
    to_query = torch.zeros(problem.anchors, width, device=upstream.device) if need_x else None
    to_gallery = torch.zeros(problem.columns, width, device=upstream.device) if need_gallery else None
    for strip in strips(problem.anchors, problem.columns):
        square, coefficient = problem.empty(*strip.shape), problem.empty(*strip.shape)
        close = problem.empty(*strip.shape, dtype=torch.uint8)
        near = fill_strip(packed, strip, square, close)
        _rank(
            problem,
            all_backward_kernel,
            strip,
            {"BAND": band},
            Square=square,
            Coefficient=coefficient,
            Slopes=state,
            Upstream=upstream,
        )
        coefficients = Coefficients(strip, coefficient, close, near)
        add_strip(packed, coefficients, to_query, to_query if packed.self_form else to_gallery)
    return (
        None if to_query is None else packed.query.gradient(_unsorted(to_query, order.query)),
        None if to_gallery is None else packed.gallery.gradient(_unsorted(to_gallery, order.gallery)),
    )


def _unsorted(rows: Tensor, order: Tensor) -> Tensor:
    result = torch.empty_like(rows)
    result[order] = rows
    return result


def mined_backward(
    problem: Problem, grad_sums: Tensor, state: Tensor, need_x: bool, need_gallery: bool, *, hard: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both sides from the mined triplets alone: O(triplets · D)."""
    query, gallery = problem.sources()
    to_query = torch.zeros_like(query.rows, dtype=torch.float64) if need_x else None
    to_gallery = torch.zeros_like(gallery.rows, dtype=torch.float64) if need_gallery else None
    upstream = grad_sums.flatten().double()
    for anchor, positive, negative in _hard_triplets(state) if hard else _semihard_triplets(problem, state):
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
        else own.gradient(total).masked_fill_(lost_rows(own, gallery)[:, None], torch.nan)
        for own, total in ((query, to_query), (gallery, to_gallery))
    )


def _hard_triplets(state: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    positive, negative = state.long().unbind(0)
    anchor = ((positive >= 0) & (negative >= 0)).nonzero().squeeze(1)
    yield anchor, positive[anchor], negative[anchor]


def _semihard_triplets(problem: Problem, state: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Triplets of the anchors, some at a time; classes too large for the state are mined again."""
    order = problem.order
    slots = int(order.positive_count.max())
    if slots <= STATE_SLOTS:
        yield from _triplets(order, 0, state[:slots])
        return
    rows = problem.empty(3, problem.anchors)
    step = max(1, _EDGES // slots)
    offset = torch.arange(problem.anchors, device=state.device)
    for strip, square in _filled(problem, problem.packed()):
        for first in range(strip.first, strip.first + strip.rows, step):
            part = Strip(first, min(step, strip.first + strip.rows - first), strip.stride)
            negative = problem.empty(slots, part.rows, dtype=torch.int32)
            mine = square[first - strip.first :]
            _semihard(problem, part, mine, negative, offset - first, slots, part.rows, rows)
            yield from _triplets(order, first, negative)


def _triplets(order: LabelOrder, first: int, negative: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The triplets of anchors from sorted position `first` on; negative [slots, anchors] holds rows of the gallery."""
    slots, anchors = negative.shape
    slot = torch.arange(slots, device=negative.device)[:, None]
    count = order.positive_count[first : first + anchors]
    slot, at = ((slot < count) & (negative >= 0)).nonzero().unbind(1)
    yield order.query[first + at], positive_of(order, first + at, slot), negative[slot, at].long()

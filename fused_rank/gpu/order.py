"""The order in which rows are walked: sorted by label, so that a query's positives are one contiguous range.

Everything stays on the rows' device, and nothing waits for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LabelOrder:
    """Permutations of both sides and, for each sorted query, where its positives lie in the sorted gallery.

    In self form both sides are one, and a query's range holds its own position too: it is no pair.
    """

    query: Tensor  # int64 [M]: sorted position -> original row
    gallery: Tensor  # int64 [N]; in self form `query` itself
    begin: Tensor  # int32 [M], by sorted query position
    end: Tensor  # int32 [M]
    self_form: bool

    @property
    def positive_count(self) -> Tensor:
        """Positives of each sorted query, int32 [M]; its own position is not counted."""
        return self.end - self.begin - int(self.self_form)

    @property
    def negative_count(self) -> Tensor:
        """Negatives of each sorted query, int32 [M]."""
        return self.gallery.shape[0] - (self.end - self.begin)


def order_by_label(
    labels: Tensor | None, gallery_labels: Tensor | None, queries: int, gallery: int, device: torch.device
) -> LabelOrder:
    """Labels [M] and [N] sorted, equal ones by original row. Self form without `gallery_labels`.

    Without any labels row i's only positive is gallery row i, and both sides keep their order.
    """
    if labels is None:
        pairs = order_as_given(queries, gallery, self_form=False, device=device)
        begin = torch.arange(queries, dtype=torch.int32, device=device)
        return LabelOrder(pairs.query, pairs.gallery, begin, begin + 1, False)
    own, query = torch.sort(labels.long(), stable=True)
    if gallery_labels is None:
        others, columns = own, query
    else:
        others, columns = torch.sort(gallery_labels.long(), stable=True)
    begin = torch.searchsorted(others, own, out_int32=True)
    end = torch.searchsorted(others, own, right=True, out_int32=True)
    return LabelOrder(query, columns, begin, end, gallery_labels is None)


def order_as_given(queries: int, gallery: int, *, self_form: bool, device: torch.device) -> LabelOrder:
    """The caller's order and no positives: retrieval."""
    query = torch.arange(queries, device=device)
    columns = query if self_form else torch.arange(gallery, device=device)
    none = torch.zeros(queries, dtype=torch.int32, device=device)
    return LabelOrder(query, columns, none, none, self_form)


def reversed_ranges(order: LabelOrder) -> tuple[Tensor, Tensor]:
    """For each sorted gallery row its positives [begin, end) among the sorted queries: the ranges rise with the
    query.
    """
    place = torch.arange(order.gallery.shape[0], dtype=torch.int32, device=order.begin.device)
    begin = torch.searchsorted(order.end, place, right=True, out_int32=True)
    end = torch.searchsorted(order.begin, place, right=True, out_int32=True)
    return begin, end


def positive_of(order: LabelOrder, at: Tensor, slot: Tensor) -> Tensor:
    """The gallery row in a slot of the anchor at a sorted position."""
    position = order.begin.long()[at] + slot
    if order.self_form:
        position += position >= at
    return order.gallery[position.clamp(max=order.gallery.shape[0] - 1)]

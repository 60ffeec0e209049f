"""Shapes and dtypes of every operator's results, for torch.compile and opcheck; no data is touched.

Backends differ in what they keep between forward and backward; the eager one keeps nothing.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ..gpu.widths import on_chip
from ..reference.distance import accumulation_dtype
from .schemas import (
    PAIR_CHANNELS,
    PAIR_STATE_ROWS,
    RANK_MEASURES,
    TRIPLET_COUNTS,
    WHOLE_ROWS,
    pair_row_count,
    triplet_state_rows,
)

_TILE = 64


def _gradient(source: Tensor | None, needed: bool, like: Tensor) -> Tensor:
    if source is None or not needed:
        return like.new_empty(0)
    return source.new_empty(source.shape)


def _backward(x: Tensor, gallery: Tensor | None, need_x: bool, need_gallery: bool) -> tuple[Tensor, Tensor]:
    return _gradient(x, need_x, x), _gradient(gallery, need_gallery, x)


def live_tiles(x: Tensor, gallery: Tensor | None) -> Tensor:
    """A live map for tiles of at least 64 × 64 pairs, unwritten."""
    columns = x.shape[0] if gallery is None else gallery.shape[0]
    tiles = ((x.shape[0] + _TILE - 1) // _TILE) * ((columns + _TILE - 1) // _TILE)
    # One to spare, so that its length is never 1: torch.compile would make a graph of its own for that.
    return x.new_empty(tiles + 1, dtype=torch.uint8)


def fake_kernels(backend: Literal["cpp", "triton", "cuda", "eager"]) -> dict[str, Callable[..., Any]]:
    """One fake for each schema."""

    def pair_forward(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        inputs: Tensor | None,
        term: str,
        params: list[float],
        metric: str,
        normalize: bool,
        fused: str,
        symmetric: bool,
    ) -> tuple[Tensor, ...]:
        dtype = accumulation_dtype(x.dtype)
        rows = pair_row_count(x.shape[0], 0 if gallery is None else gallery.shape[0], symmetric)
        empty = x.new_empty(0, dtype=dtype)
        result = x.new_empty(3 * PAIR_CHANNELS[term], rows, dtype=dtype)
        if backend == "eager":
            return result, empty, x.new_empty(0, dtype=torch.uint8), empty.clone(), empty.clone()
        state = x.new_empty(PAIR_STATE_ROWS[term], rows, dtype=dtype)
        if backend == "triton":  # one gradient per query, already divided by its normalisers
            ahead = fused == "query" and on_chip(x.dtype, x.shape[1])
            unit = x.new_empty(x.shape, dtype=dtype) if ahead else empty
            return result, state, live_tiles(x, gallery), unit, empty.clone()
        if backend == "cuda":  # its gradient is made in backward
            return result, state, live_tiles(x, gallery), empty, empty.clone()
        sides = (x if fused in ("query", "both") else None, gallery if fused in ("gallery", "both") else None)
        parts = 1 if term in WHOLE_ROWS else 2
        units = (
            empty.clone() if side is None else side.new_empty(parts, *side.shape, dtype=dtype)
            for side in sides
        )
        return result, state, live_tiles(x, gallery), *units

    def pair_backward(
        grad_sums: Tensor,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        inputs: Tensor | None,
        term: str,
        params: list[float],
        metric: str,
        normalize: bool,
        query_only: bool,
        symmetric: bool,
        state: Tensor,
        live: Tensor,
        grad_x: Tensor,
        grad_gallery: Tensor,
        need_x: bool,
        need_gallery: bool,
        need_inputs: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        like = x.new_empty(0, dtype=grad_sums.dtype)
        return *_backward(x, gallery, need_x, need_gallery), _gradient(inputs, need_inputs, like)

    def triplet_forward(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        mining: str,
        margin: float,
        soft_margin: bool,
        metric: str,
        normalize: bool,
        symmetric: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = accumulation_dtype(x.dtype)
        reported = pair_row_count(x.shape[0], 0 if gallery is None else gallery.shape[0], symmetric)
        rows = x.new_empty(3, reported, dtype=dtype)
        if backend == "eager":
            return rows, x.new_empty(0, dtype=dtype), x.new_empty(0, dtype=torch.uint8)
        if backend == "cuda" and mining not in ("hard", "semihard"):
            return rows, x.new_empty(0, dtype=dtype), x.new_empty(0, dtype=torch.uint8)
        state = x.new_empty(triplet_state_rows(mining), reported, dtype=dtype)
        if backend in ("triton", "cuda"):  # their backward visits every tile
            return rows, state, x.new_empty(0, dtype=torch.uint8)
        return rows, state, live_tiles(x, gallery)

    def triplet_backward(
        grad_sums: Tensor,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        mining: str,
        margin: float,
        soft_margin: bool,
        metric: str,
        normalize: bool,
        state: Tensor,
        live: Tensor,
        rows: Tensor,
        need_x: bool,
        need_gallery: bool,
        symmetric: bool = False,
    ) -> tuple[Tensor, Tensor]:
        return _backward(x, gallery, need_x, need_gallery)

    def mine_hard(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        metric: str,
        normalize: bool,
        symmetric: bool = False,
    ) -> tuple[Tensor, Tensor]:
        rows = pair_row_count(x.shape[0], 0 if gallery is None else gallery.shape[0], symmetric)
        index = x.new_empty(rows, dtype=torch.int64)
        return index, torch.empty_like(index)

    def mine_semihard(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        metric: str,
        normalize: bool,
        symmetric: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        index = x.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
        return index, torch.empty_like(index), torch.empty_like(index)

    def topk(
        queries: Tensor, gallery: Tensor | None, k: int, metric: str, normalize: bool, exclude_self: bool
    ) -> tuple[Tensor, Tensor]:
        values = queries.new_empty(queries.shape[0], k, dtype=accumulation_dtype(queries.dtype))
        return values, torch.empty_like(values, dtype=torch.int64)

    def rank_positives(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        cutoffs: list[int],
        metric: str,
        normalize: bool,
    ) -> Tensor:
        return x.new_empty(RANK_MEASURES + 2 * len(cutoffs), x.shape[0], dtype=torch.float64)

    def find_partner(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        positives: bool,
        farthest: bool,
        above: Tensor | None,
        below: Tensor | None,
        metric: str,
        normalize: bool,
    ) -> tuple[Tensor, Tensor]:
        values = x.new_empty(x.shape[0], dtype=accumulation_dtype(x.dtype))
        return torch.empty_like(values, dtype=torch.int64), values

    def sample_negatives(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        draws: Tensor,
        cutoff: float,
        limit: float,
    ) -> Tensor:
        return torch.empty_like(draws, dtype=torch.int64)

    def triplet_counts(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        margin: float,
        metric: str,
        normalize: bool,
    ) -> Tensor:
        return x.new_empty(TRIPLET_COUNTS, x.shape[0], dtype=torch.float64)

    def distance_histogram(
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        edges: list[float],
        metric: str,
        normalize: bool,
    ) -> Tensor:
        return x.new_empty(2, len(edges) + 1, dtype=torch.int64)

    def indexed_distance(
        x: Tensor, gallery: Tensor | None, i: Tensor | None, j: Tensor | None, metric: str, normalize: bool
    ) -> Tensor:
        length = x.shape[0] if i is None else i.shape[0]
        return x.new_empty(length, dtype=accumulation_dtype(x.dtype))

    def indexed_distance_backward(
        grad: Tensor,
        x: Tensor,
        gallery: Tensor | None,
        i: Tensor | None,
        j: Tensor | None,
        metric: str,
        normalize: bool,
        need_x: bool,
        need_gallery: bool,
    ) -> tuple[Tensor, Tensor]:
        return _backward(x, gallery, need_x, need_gallery)

    return {
        "pair_forward": pair_forward,
        "pair_backward": pair_backward,
        "triplet_forward": triplet_forward,
        "triplet_backward": triplet_backward,
        "mine_hard": mine_hard,
        "mine_semihard": mine_semihard,
        "topk": topk,
        "rank_positives": rank_positives,
        "find_partner": find_partner,
        "sample_negatives": sample_negatives,
        "triplet_counts": triplet_counts,
        "distance_histogram": distance_histogram,
        "indexed_distance": indexed_distance,
        "indexed_distance_backward": indexed_distance_backward,
    }

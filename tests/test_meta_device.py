"""Tensors of the meta device: the shape of the result where the shape decides it, else one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import fused_rank
from fused_rank import diagnostics, functional, mining, retrieval

from .losses import MAIN_CASES, Loss, case_id

META, META_L = torch.rand(6, 4).to("meta"), (torch.arange(6) // 2).to("meta")
# What the shape alone can't tell. Everything else gives a meta tensor.
SHAPELESS: dict[str, Callable[[], object]] = {
    "angular": lambda: functional.angular_loss(META, META_L),
    "N-pairs, unique": lambda: functional.n_pairs_loss(META, META_L, pairs="unique"),
    "triplets both ways": lambda: functional.triplet_margin_loss(META, gallery=META, symmetric=True),
    "guarded triplets": lambda: functional.triplet_margin_loss(META, META_L, exclude_closer_than=0.1),
    "judged triplets": lambda: functional.triplet_margin_loss(META, META_L, mining_embeddings=META),
    "semihard": lambda: mining.semihard(META, META_L),
    "random": lambda: mining.random(META, META_L),
    "distance-weighted": lambda: mining.distance_weighted(META, META_L),
    "offline": lambda: mining.offline(META, META_L, progress=False),
    "statistics": lambda: mining.triplet_stats(META, META_L),
    "evaluation": lambda: retrieval.evaluate(META, META_L),
    "health": lambda: diagnostics.embedding_health(META, META_L),
}


@pytest.mark.parametrize("name", SHAPELESS)
def test_where_values_are_needed(name: str) -> None:
    rows = "queries" if name in ("offline", "evaluation") else "embeddings"
    with (
        fused_rank.use_backend("eager"),  # what serves the meta device
        pytest.raises(ValueError, match=f"{rows}: expected values, .* got the meta device's shape alone"),
    ):
        SHAPELESS[name]()


@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case[0].name != "angular"], ids=case_id)
def test_elsewhere(case: tuple[Loss, dict[str, Any]], form: str) -> None:
    loss, options = case
    if form not in loss.forms:
        pytest.skip(f"{loss} compares two sets")
    gallery = {} if form == "self" else {"gallery": META, "gallery_labels": META_L}
    with fused_rank.use_backend("eager"):
        assert loss.function(META, META_L, **gallery, **options).is_meta

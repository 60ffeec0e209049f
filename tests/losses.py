"""One row a loss: its module, functional twin, reference and oracle, and the options worth crossing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fused_rank
from fused_rank import functional, reference

from . import oracle
from .inputs import Inputs
from .oracle import Rows

Options = dict[str, Any]

DISTANCES: list[Options] = [
    {"metric": "euclidean", "normalize": True},
    {"metric": "euclidean", "normalize": False},
    {"metric": "sqeuclidean", "normalize": True},
    {"metric": "sqeuclidean", "normalize": False},
    {"metric": "cosine", "normalize": True},
]
COSINE: list[Options] = [{"metric": "cosine", "normalize": True}]


@dataclass(frozen=True)
class Loss:
    """A loss with everything that tests call it by.

    `geometries` are the distances it can be of, whether or not it lets the caller choose; `forms` those that it
    has. A test that asks for another geometry or form skips.
    """

    name: str
    module: type[nn.Module]
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    rows: Callable[..., Rows]
    options: list[Options] = field(repr=False)
    geometries: list[Options] = field(repr=False, default_factory=lambda: DISTANCES)
    forms: tuple[str, ...] = field(repr=False, default=("self", "two-set", "plain"))

    def has(self, **geometry: Any) -> bool:
        return any(geometry.items() <= one.items() for one in self.geometries)

    def geometry(self, **wanted: Any) -> Options:
        """The options that ask for a metric, a normalisation or both: none where the loss has no choice."""
        if not self.has(**wanted):
            pytest.skip(f"{self} has no {wanted}")
        names = inspect.signature(self.function).parameters
        return {name: value for name, value in wanted.items() if name in names}

    def admit(self, inputs: Inputs) -> None:
        if inputs.gallery is None and "self" not in self.forms:
            pytest.skip(f"{self} compares two sets")

    def reported(self, options: Options, inputs: Inputs) -> int:
        """How many rows have a loss."""
        return len(inputs.tensors[0]) + (len(inputs.tensors[-1]) if options.get("symmetric") else 0)

    def __call__(self, inputs: Inputs, **options: Any) -> Tensor:
        self.admit(inputs)
        value: Tensor = self.module(**options)(inputs.embeddings, inputs.labels, **inputs.keywords)
        return value

    def eager(self, inputs: Inputs, **options: Any) -> Tensor:
        self.admit(inputs)
        return self.reference(inputs.embeddings, inputs.labels, **inputs.keywords, **options)

    def oracle(self, inputs: Inputs, **options: Any) -> Rows:
        self.admit(inputs)
        return self.rows(inputs.embeddings, inputs.labels, inputs.gallery, inputs.gallery_labels, **options)

    def __str__(self) -> str:
        return self.name


RANKED_LIST = Loss(
    "ranked_list",
    fused_rank.RankedListLoss,
    functional.ranked_list_loss,
    reference.ranked_list_loss,
    oracle.ranked_list,
    [
        {"gradient": "query"},
        {"gradient": "both"},
        {"gradient": "exact"},
        {"gradient": "exact", "temperature_pos": 5.0, "positive_mean": "all", "eps": 0.3},
        {
            "gradient": "both",
            "temperature_pos": 5.0,
            "alpha": 1.4,
            "margin": 0.6,
            "pos_weight": 0.3,
            "eps": 1e-3,
        },
        {"gradient": "query", "temperature_pos": 20.0, "positive_mean": "all", "neg_weight": 0.4},
        {"gradient": "query", "temperature_neg": 0.0, "alpha": 1.1, "margin": 0.9},
        {"gradient": "exact", "temperature_neg": 130.0, "temperature_pos": 90.0},
        {"gradient": "query", "temperature_neg": 130.0, "temperature_pos": 90.0, "eps": 1e-4},
    ],
)

CONTRASTIVE = Loss(
    "contrastive",
    fused_rank.ContrastiveLoss,
    functional.contrastive_loss,
    reference.contrastive_loss,
    oracle.contrastive,
    [
        {},
        {"power": 1},
        {"pos_margin": 0.4, "neg_margin": 1.3},
        {"pos_margin": 0.5, "neg_margin": 0.8, "power": 1},
        {"pos_margin": 5.0, "neg_margin": 0.0},
    ],
)

TRIPLET = Loss(
    "triplet",
    fused_rank.TripletMarginLoss,
    functional.triplet_margin_loss,
    reference.triplet_margin_loss,
    oracle.triplet_margin,
    [
        {"mining": "semihard"},
        {"mining": "semihard", "margin": 0.05, "soft_margin": True},
        {"mining": "hard"},
        {"mining": "hard", "soft_margin": True, "margin": 0.0},
        {"mining": "all"},
        {"mining": "all", "margin": 0.5, "soft_margin": True},
        {"mining": "semihard_all", "margin": 0.3},
        {"mining": "semihard_all", "soft_margin": True},
    ],
)

SUP_CON = Loss(
    "sup_con",
    fused_rank.SupConLoss,
    functional.sup_con_loss,
    reference.sup_con_loss,
    oracle.sup_con,
    [{}, {"temperature": 1.0}],
    COSINE,
)

INFO_NCE = Loss(
    "info_nce",
    fused_rank.InfoNCELoss,
    functional.info_nce_loss,
    reference.info_nce_loss,
    oracle.info_nce,
    [
        {},
        {"symmetric": True},
        {"temperature": 0.5, "symmetric": True},
    ],
    COSINE,
    ("two-set", "plain"),
)

NT_XENT = Loss(
    "nt_xent",
    fused_rank.NTXentLoss,
    functional.nt_xent_loss,
    reference.nt_xent_loss,
    oracle.nt_xent,
    [{}, {"temperature": 0.5}],
    COSINE,
)

N_PAIRS = Loss(
    "n_pairs",
    fused_rank.NPairsLoss,
    functional.n_pairs_loss,
    reference.n_pairs_loss,
    oracle.n_pairs,
    [{}, {"pairs": "unique"}, {"l2": 0.3}, {"pairs": "unique", "l2": 0.01}],
    [{"metric": "dot", "normalize": False}, {"metric": "cosine", "normalize": True}],
)

ANGULAR = Loss(
    "angular",
    fused_rank.AngularLoss,
    functional.angular_loss,
    reference.angular_loss,
    oracle.angular,
    [
        {"pairs": "all"},
        {"pairs": "unique"},
        {"pairs": "all", "alpha": 30.0, "npairs_weight": 0.5},
        {"pairs": "unique", "alpha": 55.0, "npairs_weight": 2.0},
        {"pairs": "all", "alpha": 75.0},
    ],
    [{"metric": "dot", "normalize": True}],
)

MULTI_SIMILARITY = Loss(
    "multi_similarity",
    fused_rank.MultiSimilarityLoss,
    functional.multi_similarity_loss,
    reference.multi_similarity_loss,
    oracle.multi_similarity,
    [
        {},
        {"mining_epsilon": 0.1},
        {"alpha": 5.0, "beta": 10.0, "base": 0.8},
        {"mining_epsilon": 0.0, "beta": 20.0},
        {"beta": 200.0, "mining_epsilon": 0.2},
    ],
    COSINE,
)

CIRCLE = Loss(
    "circle",
    fused_rank.CircleLoss,
    functional.circle_loss,
    reference.circle_loss,
    oracle.circle,
    [{"gamma": 20.0}, {"m": 0.25, "gamma": 8.0}, {"m": 1.2, "gamma": 5.0}],
    COSINE,
)

LIFTED = Loss(
    "lifted_structure",
    fused_rank.GeneralizedLiftedStructureLoss,
    functional.lifted_structure_loss,
    reference.lifted_structure_loss,
    oracle.lifted_structure,
    [{}, {"neg_margin": 0.2, "pos_margin": 0.7}],
)

MARGIN = Loss(
    "margin",
    fused_rank.MarginLoss,
    functional.margin_loss,
    reference.margin_loss,
    oracle.margin,
    [{}, {"margin": 0.5, "beta": 0.9}, {"margin": 0.0, "beta": 1.4}],
)

LOSSES = [
    RANKED_LIST,
    CONTRASTIVE,
    TRIPLET,
    SUP_CON,
    INFO_NCE,
    NT_XENT,
    N_PAIRS,
    ANGULAR,
    MULTI_SIMILARITY,
    CIRCLE,
    LIFTED,
    MARGIN,
]

# The first options of each loss and of each of its code paths, for tests that cross them with something else.
MAIN_CASES = [
    (RANKED_LIST, {"gradient": "query"}),
    (RANKED_LIST, {"gradient": "both", "temperature_pos": 5.0}),
    (RANKED_LIST, {"gradient": "exact", "temperature_pos": 5.0, "positive_mean": "all", "eps": 1e-2}),
    (CONTRASTIVE, {"neg_margin": 1.2}),
    (CONTRASTIVE, {"power": 1, "pos_margin": 0.3}),
    (TRIPLET, {"mining": "semihard"}),
    (TRIPLET, {"mining": "hard"}),
    (TRIPLET, {"mining": "all"}),
    (TRIPLET, {"mining": "all", "soft_margin": True}),
    (TRIPLET, {"mining": "semihard_all"}),
    (SUP_CON, {}),
    (SUP_CON, {"temperature": 0.015}),  # beyond a fixed shift
    (INFO_NCE, {}),
    (NT_XENT, {}),
    (N_PAIRS, {}),
    (ANGULAR, {"pairs": "all"}),
    (MULTI_SIMILARITY, {}),
    (MULTI_SIMILARITY, {"mining_epsilon": 0.1}),
    (CIRCLE, {"gamma": 20.0}),
    (LIFTED, {}),
    (MARGIN, {}),
]


def case_id(case: object) -> str | None:
    """A readable id for a loss, its options or a dtype."""
    if isinstance(case, tuple) and isinstance(case[0], Loss):
        return f"{case[0]}-{options_id(case[1])}"
    if isinstance(case, dict):
        return options_id(case)
    if isinstance(case, Loss):
        return case.name
    return str(case).removeprefix("torch.") if isinstance(case, torch.dtype) else None


def options_id(options: Options) -> str:
    return ",".join(str(v) if isinstance(v, str) else f"{k}={v}" for k, v in options.items()) or "default"


def moves_gallery(options: Options, loss: Loss) -> bool:
    """Whether a gallery may require grad: not under the ranked list loss's default gradient."""
    return loss is not RANKED_LIST or options.get("gradient", "query") != "query"

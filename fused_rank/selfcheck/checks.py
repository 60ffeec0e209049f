"""The checks of every public operation: run it on the device, compare value and gradients with the oracle."""

from functools import partial

from .loss_checks import LOSSES, check_loss, explicit_triplets, learned_borders
from .mining_checks import distance_weighted, mined_hard, mined_semihard, partners, triplet_stats
from .retrieval_checks import distance, evaluation, health, nearest
from .tolerance import Check

CHECKS: dict[str, Check] = {
    **{name: check_loss(loss) for name, loss in LOSSES.items()},
    "triplet_margin_loss, listed": explicit_triplets,
    "margin_loss, learned": learned_borders,
    "mining.hard": mined_hard,
    "mining.semihard": mined_semihard,
    "mining.partners": partners,
    "mining.distance_weighted": distance_weighted,
    "mining.triplet_stats": triplet_stats,
    "retrieval.evaluate": partial(evaluation, "euclidean"),
    "retrieval.evaluate, dot": partial(evaluation, "dot"),
    "diagnostics.embedding_health": health,
    "retrieval.topk": partial(nearest, "euclidean"),
    "retrieval.topk, dot": partial(nearest, "dot"),
    "paired_distance": partial(distance, True),
    "pairwise_distance": partial(distance, False),
}

"""The other ways to compute these losses, each as its best author would write it."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.functional import normalize as unit_rows

LossFunction = Callable[[Tensor, Tensor], Tensor]


def pytorch_metric_learning(loss: str, options: Mapping[str, Any]) -> LossFunction:
    """pytorch-metric-learning's own loss and miner for the same option values; KeyError where it has none.

    Its ranked list loss sends gradients through the weights into both ends; its contrastive loss is linear.
    """
    from pytorch_metric_learning import distances, losses, miners

    chosen = dict(options)
    distance = distances.LpDistance(normalize_embeddings=chosen.get("normalize", True))
    if loss == "ranked_list":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of temperatures above 5; the published one is 10
            return losses.RankedListLoss(margin=0.4, Tn=10.0, imbalance=0.5, alpha=1.2, distance=distance)
    if loss == "contrastive":
        return losses.ContrastiveLoss(neg_margin=chosen.get("neg_margin", 1.0), distance=distance)
    if loss == "sup_con":
        return losses.SupConLoss(**chosen)
    alike = {
        "n_pairs": losses.NPairsLoss,
        "circle": losses.CircleLoss,
        "lifted_structure": losses.GeneralizedLiftedStructureLoss,
        "multi_similarity": losses.MultiSimilarityLoss,
    }
    if loss in alike:
        theirs = alike[loss]()
        if "mining_epsilon" not in chosen:
            return theirs
        informative = miners.MultiSimilarityMiner(chosen["mining_epsilon"])
        return lambda x, labels: theirs(x, labels, informative(x, labels))
    triplet = losses.TripletMarginLoss(margin=0.2, distance=distance)
    if chosen["mining"] == "all":
        return triplet
    if chosen["mining"] == "hard":
        miner = miners.BatchHardMiner(distance=distance)
    elif chosen["mining"] == "semihard_all":
        miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=distance)
    else:
        raise KeyError(f"pytorch-metric-learning has no {chosen['mining']} mining")
    return lambda x, labels: triplet(x, labels, miner(x, labels))


def cross_entropy_of_pairs(
    x: Tensor, labels: Tensor, temperature: float = 0.07, symmetric: bool = False
) -> Tensor:
    """InfoNCE of queries and gallery, one after the other in x, as CLIP's code has it."""
    queries, gallery = unit_rows(x, dim=1).chunk(2)
    logits, own = queries @ gallery.t() / temperature, torch.arange(len(queries), device=x.device)
    there = cross_entropy(logits, own)
    return (there + cross_entropy(logits.t(), own)) / 2 if symmetric else there


def semihard_by_sort(x: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """FaceNet semi-hard in O(B² log B): sort each row's negatives, search them for each positive."""
    x = unit_rows(x, dim=1)
    with torch.no_grad():
        squared = _squared_distances(x)
        same = labels[:, None] == labels[None, :]
        negatives = (~same).sum(1, keepdim=True)
        ranked, order = squared.masked_fill(same, torch.inf).sort(dim=1)
        anchor, positive, slot, places = _positives(same)
        bounds = squared.new_full((len(x), places), torch.inf)
        bounds[anchor, slot] = squared[anchor, positive]
        farther = torch.searchsorted(ranked, bounds, right=True)
        chosen = torch.minimum(farther, (negatives - 1).clamp(min=0))  # none farther: the farthest there is
        negative = order.gather(1, chosen)[anchor, slot]
    return _hinge(x, anchor, positive, negative, margin)


def semihard_by_slot(x: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """The same with a masked minimum over B×B for each of an anchor's positives: quick in small classes."""
    x = unit_rows(x, dim=1)
    with torch.no_grad():
        squared = _squared_distances(x)
        same = labels[:, None] == labels[None, :]
        anchor, positive, slot, places = _positives(same)
        bounds = squared.new_full((len(x), places), torch.inf)
        bounds[anchor, slot] = squared[anchor, positive]
        farthest = squared.masked_fill(same, -torch.inf).argmax(1)
        squared.masked_fill_(same, torch.inf)
        chosen = []
        for bound in bounds.split(1, dim=1):
            nearest, index = squared.masked_fill(squared <= bound, torch.inf).min(1)
            chosen.append(torch.where(nearest.isinf(), farthest, index))
        negative = torch.stack(chosen, 1)[anchor, slot]
    return _hinge(x, anchor, positive, negative, margin)


def all_triplets_cubic(x: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """Batch-all triplets as commonly published: a B×B×B tensor of hinges and one of valid triplets."""
    x = unit_rows(x, dim=1)
    distance = _squared_distances(x).clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels[None, :]
    valid = (same ^ torch.eye(len(x), dtype=torch.bool))[:, :, None] & ~same[:, None, :]
    hinge = (distance[:, :, None] - distance[:, None, :] + margin).clamp(min=0) * valid
    return hinge.sum() / (hinge > 0).sum().clamp(min=1)


def _squared_distances(x: Tensor) -> Tensor:
    norms = x.square().sum(1)
    return torch.addmm(norms[:, None] + norms[None, :], x, x.t(), alpha=-2).clamp(min=0)


def _positives(same: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Every (anchor, positive), its number among the anchor's positives, and the largest such count."""
    others = same.clone().fill_diagonal_(False)
    anchor, positive = others.nonzero(as_tuple=True)
    counts = others.sum(1)
    slot = torch.arange(len(anchor)) - (counts.cumsum(0) - counts)[anchor]
    return anchor, positive, slot, int(counts.max())


def _hinge(x: Tensor, anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    to_positive = (x[anchor] - x[positive]).square().sum(1).clamp(min=1e-12).sqrt()
    to_negative = (x[anchor] - x[negative]).square().sum(1).clamp(min=1e-12).sqrt()
    return (to_positive - to_negative + margin).clamp(min=0).mean()

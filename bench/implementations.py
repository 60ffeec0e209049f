"""The contenders of a case, by name, behind one face: forward and backward of a loss on one batch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fused_rank

from . import data, peers
from .cases import Case
from .peers import LossFunction

OURS = "fused_rank"

LABELS = {
    OURS: "fused_rank",
    "eager": "eager oracle",
    "compiled": "torch.compile of it",
    "chunked": "chunked eager",
    "pml": "pytorch-metric-learning",
    "sort": "eager, sort + searchsorted",
    "slots": "eager, a minimum per positive",
    "cubic": "eager, B×B×B",
    "cross_entropy": "eager, cross_entropy",
}

_MODULES = {
    "ranked_list": fused_rank.RankedListLoss,
    "contrastive": fused_rank.ContrastiveLoss,
    "triplet": fused_rank.TripletMarginLoss,
    "sup_con": fused_rank.SupConLoss,
    "info_nce": fused_rank.InfoNCELoss,
    "nt_xent": fused_rank.NTXentLoss,
    "n_pairs": fused_rank.NPairsLoss,
    "angular": fused_rank.AngularLoss,
    "multi_similarity": fused_rank.MultiSimilarityLoss,
    "circle": fused_rank.CircleLoss,
    "lifted_structure": fused_rank.GeneralizedLiftedStructureLoss,
    "margin": fused_rank.MarginLoss,
}
_ORACLES: dict[str, Callable[..., Tensor]] = {
    "ranked_list": fused_rank.reference.ranked_list_loss,
    "contrastive": fused_rank.reference.contrastive_loss,
    "triplet": fused_rank.reference.triplet_margin_loss,
    "sup_con": fused_rank.reference.sup_con_loss,
    "info_nce": fused_rank.reference.info_nce_loss,
    "nt_xent": fused_rank.reference.nt_xent_loss,
    "n_pairs": fused_rank.reference.n_pairs_loss,
    "angular": fused_rank.reference.angular_loss,
    "multi_similarity": fused_rank.reference.multi_similarity_loss,
    "circle": fused_rank.reference.circle_loss,
    "lifted_structure": fused_rank.reference.lifted_structure_loss,
    "margin": fused_rank.reference.margin_loss,
}

_EAGER_PEERS: dict[str, LossFunction] = {
    "sort": peers.semihard_by_sort,
    "slots": peers.semihard_by_slot,
    "cubic": peers.all_triplets_cubic,
}


def build(name: str, case: Case) -> LossFunction:
    """The loss function of the contender `name` for the case."""
    if name in (OURS, "chunked"):
        return _of_batch(_MODULES[case.loss](**case.options), case)
    if name in ("eager", "compiled"):
        oracle = _of_batch(partial(_ORACLES[case.loss], **case.options), case)
        return torch.compile(oracle, dynamic=False) if name == "compiled" else oracle
    if name == "pml":
        return peers.pytorch_metric_learning(case.loss, case.options)
    if name == "cross_entropy":
        return partial(peers.cross_entropy_of_pairs, **case.options)
    return _EAGER_PEERS[name]


def _of_batch(loss: Callable[..., Tensor], case: Case) -> LossFunction:
    """Of one batch: two sets come one after the other, row i of one belonging to row i of the other."""
    if case.data != "pairs":
        return loss

    def of_pairs(x: Tensor, labels: Tensor) -> Tensor:
        queries, gallery = x.chunk(2)
        return loss(queries, gallery=gallery)

    return of_pairs


class Training:
    """Forward and backward of one contender on one batch; the last value and gradient stay readable."""

    def __init__(self, name: str, case: Case, x: Tensor, labels: Tensor) -> None:
        self.name = name
        self.loss = build(name, case)
        self.x = x.detach().clone().requires_grad_()
        self.labels = labels
        self.value = x.new_zeros(())

    def __call__(self) -> None:
        self.forget()
        with self._backend():
            value = self.loss(self.x, self.labels)
            value.backward()
        self.value = value.detach()

    def forget(self) -> None:
        """Drop the last gradient, so that the next step's is new memory."""
        self.x.grad = None

    @property
    def gradient(self) -> Tensor:
        return torch.zeros_like(self.x) if self.x.grad is None else self.x.grad

    def _backend(self) -> AbstractContextManager[Any]:
        return fused_rank.use_backend("eager") if self.name == "chunked" else nullcontext()


def training(name: str, case: Case, dtype: torch.dtype = torch.float32) -> Training:
    """A contender with the case's own data."""
    x, labels = data.make(case.data, case.rows, case.width, case.per_class)
    return Training(name, case, x.to(dtype), labels)

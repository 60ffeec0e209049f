"""Exact ranking losses for large batches, without the B×B tensors.

>>> import torch
>>> from fused_rank import RankedListLoss
>>> embeddings = torch.randn(64, 32, requires_grad=True)
>>> labels = torch.arange(64) // 4
>>> RankedListLoss()(embeddings, labels).backward()
>>> embeddings.grad.shape
torch.Size([64, 32])
"""

from importlib.metadata import PackageNotFoundError, version

from . import functional, mining, reference, retrieval
from .losses import ContrastiveLoss, InfoNCELoss, RankedListLoss, SupConLoss, TripletMarginLoss
from .ops.dispatch import backends, use_backend

try:
    __version__ = version("fused_rank")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "ContrastiveLoss",
    "InfoNCELoss",
    "RankedListLoss",
    "SupConLoss",
    "TripletMarginLoss",
    "__version__",
    "backends",
    "functional",
    "mining",
    "reference",
    "retrieval",
    "use_backend",
]

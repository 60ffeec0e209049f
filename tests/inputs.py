"""Random inputs, drawn from the generator handed in: the same test, the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Inputs:
    """What a loss is called with. `gallery` None: self form. Both labels None: plain pairing."""

    embeddings: Tensor
    labels: Tensor | None
    gallery: Tensor | None = None
    gallery_labels: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        return [t for t in (self.embeddings, self.gallery) if t is not None]

    @property
    def keywords(self) -> dict[str, Any]:
        return (
            {} if self.gallery is None else {"gallery": self.gallery, "gallery_labels": self.gallery_labels}
        )

    def leaves(self, dtype: torch.dtype | None = None, needs: tuple[bool, bool] = (True, True)) -> Inputs:
        """Fresh copies that require grad: embeddings, gallery."""
        x, y = self.embeddings, self.gallery
        return replace(
            self,
            embeddings=x.detach().clone().to(dtype or x.dtype).requires_grad_(needs[0]),
            gallery=None if y is None else y.detach().clone().to(dtype or y.dtype).requires_grad_(needs[1]),
        )

    def oracle(self) -> Inputs:
        """The same (rounded) numbers in fp64 on the CPU, as leaves."""
        on_cpu = Inputs(*(None if t is None else t.detach().cpu() for t in vars(self).values()))
        return on_cpu.leaves(torch.float64)

    def to(self, device: str) -> Inputs:
        return Inputs(*(None if t is None else t.to(device) for t in vars(self).values()))


def embed(labels: Tensor, width: int, generator: torch.Generator, spread: float = 1.1) -> Tensor:
    """Overlapping classes of norm about 1: positives and negatives lie on both sides of the usual margins."""
    _, member = labels.unique(return_inverse=True)
    centres = torch.randn(len(labels) + 1, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return (centres[member] + spread * noise) / (width * (1 + spread**2)) ** 0.5


def make_inputs(
    form: str, m: int, n: int, width: int, dtype: torch.dtype, generator: torch.Generator, per_class: int = 4
) -> Inputs:
    """`form`: "self" (n unused), "two-set" (some labels on one side only), "plain" (n = m)."""
    total = {"self": m, "two-set": m + n, "plain": m}[form]
    labels = torch.randint(0, max(1, -(-total // per_class)), (total,), generator=generator) * 7 - 11
    if form == "self":
        return Inputs(embed(labels, width, generator).to(dtype), labels)
    if form == "two-set":
        x = embed(labels, width, generator).to(dtype)
        return Inputs(x[:m].contiguous(), labels[:m], x[m:].contiguous(), labels[m:])
    both = embed(torch.arange(m).repeat(2), width, generator).to(dtype)
    return Inputs(both[:m].contiguous(), None, both[m:].contiguous(), None)

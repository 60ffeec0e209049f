"""Refuses second derivatives in words, instead of leaving out terms in silence."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor


class _Refuse(torch.autograd.Function):
    """Passes a gradient on; differentiating it once more raises."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *_sources: Tensor | None) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *_grads: Tensor) -> Any:
        raise RuntimeError(
            "fused_rank losses and distances cannot be differentiated twice (their backward recomputes tiles without a"
            " graph); use the same function of fused_rank.reference where second derivatives are needed"
        )


def refuse_double_backward(
    grads: tuple[Tensor | None, ...], *sources: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Tie first derivatives to what they depend on, so that a second differentiation raises rather than gives zero."""
    if not torch.is_grad_enabled():  # no create_graph: nobody can come back
        return grads
    tie = cast(Callable[..., Tensor], _Refuse.apply)
    return tuple(None if grad is None else tie(grad, *sources) for grad in grads)

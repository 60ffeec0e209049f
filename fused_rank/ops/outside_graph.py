"""Functions whose number of results depends on the data, so that torch.compile has to leave its graph for them."""

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


def outside_graph(function: Function) -> Function:
    """The mark of `torch.compiler.disable`, which itself would import the compiler, and triton with it."""
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    function._torchdynamo_disable_msg = "the data decide how many pairs there are"  # type: ignore[attr-defined]
    return function

"""Autograd inside an operator's kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_AUTOGRAD = torch._C.DispatchKey.AutogradFunctionality


@contextmanager
def inner_autograd() -> Iterator[None]:
    """Record a graph even below autograd.

    A dispatch mode (opcheck, FLOP counters, selective checkpointing) calls kernels with the autograd keys excluded
    for the thread; grad mode alone does not bring them back.
    """
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOGRAD)
    torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOGRAD, False)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOGRAD, excluded)

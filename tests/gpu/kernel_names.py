"""Which kernels the Triton backend has."""

from __future__ import annotations

import importlib
import pkgutil


def kernel_names() -> set[str]:
    """By the name that launches are counted under."""
    import fused_rank.triton as package

    names: set[str] = set()
    for module in pkgutil.iter_modules(package.__path__):
        members = vars(importlib.import_module(f"fused_rank.triton.{module.name}"))
        names |= {
            name for name, member in members.items() if name.endswith("_kernel") and hasattr(member, "fn")
        }
    return names

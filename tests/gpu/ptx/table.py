"""The instructions that are known: opcode to function. A module adds its own with `@executes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction
    from .registers import Active

Handler = Callable[["Block", "Instruction", "Active"], None]
HANDLERS: dict[str, Handler] = {}


def executes(*opcodes: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(opcodes, handler))
        return handler

    return add

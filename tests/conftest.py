from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings

import fused_rank

BACKENDS = ("cpp", "eager")  # a new backend joins every test by its name here
REQUIRED = [name for name in os.environ.get("FUSED_RANK_REQUIRE_BACKENDS", "").split(",") if name]

settings.register_profile("fused_rank", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("fused_rank")


@dataclass(frozen=True)
class Backend:
    name: str
    device: str


def unavailable(name: str) -> str | None:
    """Why a backend cannot serve every operation here, or None."""
    reasons = {operation: served[name] for operation, served in fused_rank.backends().items()}
    return next(
        (f"{operation}: {reason}" for operation, reason in reasons.items() if reason is not None), None
    )


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Runs the test with one backend in force; skips where it can't serve, unless CI requires it."""
    name: str = request.param
    reason = unavailable(name)
    if reason is not None:
        message = f"backend {name} is unavailable: {reason}"
        if name in REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    with fused_rank.use_backend(name):
        yield Backend(name, "cuda" if name in ("triton", "cuda") else "cpu")


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    """Its own random numbers for every test, the same for every backend of it."""
    test = re.sub(rf"\b({'|'.join(BACKENDS)})\b-?", "", request.node.nodeid)
    return torch.Generator().manual_seed(zlib.crc32(test.encode()))

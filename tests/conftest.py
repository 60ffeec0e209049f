from __future__ import annotations

import os
import re
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings

import fused_rank

BACKENDS = ("cpp", "triton", "cuda", "eager")  # a new backend joins every test by its name here
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # set in __init__.py where there is no GPU
EMULATED = bool(os.environ.get("FUSED_RANK_CUDA_EMULATED"))  # likewise
EVERY_TEST = os.environ.get("FUSED_RANK_EVERY_TEST") == "1"
# Where GPU kernels run on the CPU a test costs seconds. What these files cross is written once, in Python, for all
# backends: there each of them runs an eighth of the crossings, chosen by name, unless FUSED_RANK_EVERY_TEST=1.
THINNED = {
    "test_autograd_modes", "test_bad_input", "test_compile", "test_cross_modal", "test_degenerate", "test_determinism",
    "test_diagnostics", "test_distances", "test_evaluate", "test_functional", "test_gradcheck", "test_near_duplicates",
    "test_opcheck", "test_pair_operators", "test_partners", "test_peers", "test_properties", "test_reductions",
    "test_requires_grad", "test_sampling", "test_triplet_stats", "test_two_dtypes",
}  # fmt: skip
REQUIRED = [name for name in os.environ.get("FUSED_RANK_REQUIRE_BACKENDS", "").split(",") if name]

settings.register_profile("fused_rank", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("fused_rank")


@dataclass(frozen=True)
class Backend:
    name: str
    device: str

    @property
    def interpreted(self) -> bool:
        """GPU kernels run on the CPU: small batches, please."""
        return self.name in ("triton", "cuda") and self.device == "cpu"


@contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """What torch hands out unwritten holds NaN."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(2).isnan().all()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Triton kernels run in the strict interpreter."""
    from .gpu import strict_interpreter

    strict_interpreter.install()
    with unwritten_memory_is_nan():
        yield


@contextmanager
def emulated_kernels(seed: int) -> Iterator[None]:
    """CUDA kernels run on the CPU, blocks and threads in an order of the seed's."""
    from .cuda_emulation import build

    build.module()
    from fused_rank.cuda import kernels

    kernels._emulation().set_seed(seed)
    with unwritten_memory_is_nan():
        yield


def on_cpu(name: str, test: str) -> AbstractContextManager[None]:
    """What GPU kernels need to run on the CPU, where that is where they run."""
    if name == "triton" and INTERPRETED:
        return interpreted_kernels()
    if name == "cuda" and EMULATED:
        return emulated_kernels(1 + zlib.crc32(test.encode()) % 1000)
    return nullcontext()


@pytest.fixture
def triton_kernels() -> Iterator[None]:
    """For tests of the kernels alone: the triton backend, interpreted."""
    if not INTERPRETED:
        pytest.skip("kernels are compiled here, not interpreted")
    reason = fused_rank.backends()["retrieval.topk"].get("triton", "not built in")
    if reason is not None:
        (pytest.fail if "triton" in REQUIRED else pytest.skip)(f"backend triton cannot serve: {reason}")
    with fused_rank.use_backend("triton"), interpreted_kernels():
        yield


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Runs the test with one backend in force; skips where it can't serve, unless CI requires it."""
    name: str = request.param
    reasons = [
        reason
        for served in fused_rank.backends().values()
        if (reason := served[name]) is not None and not reason.startswith("it has no ")
    ]
    if reasons and name in REQUIRED:
        pytest.fail(f"backend {name} is required and cannot serve: {reasons[0]}")
    if len(reasons) == len(fused_rank.backends()):
        pytest.skip(f"backend {name} cannot serve: {reasons[0]}")
    on_gpu = (name == "triton" and not INTERPRETED) or (name == "cuda" and not EMULATED)
    with fused_rank.use_backend(name), on_cpu(name, request.node.nodeid):
        yield Backend(name, "cuda" if on_gpu else "cpu")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `THINNED` says."""
    if EVERY_TEST:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("backend") if callspec is not None else None
        slow = (name == "triton" and INTERPRETED) or (name == "cuda" and EMULATED)
        spared = slow and item.path.stem in THINNED and zlib.crc32(item.name.encode()) % 8 != 0
        (left_out if spared else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """An operation that a backend, not required, does not have is a reason to skip, not a failure.

    A dtype that it does not serve by design, or a term or operator that it lacks, is one even where the backend is
    required.
    """
    try:
        return (yield)
    except RuntimeError as error:
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("backend") if callspec is not None else None
        by_design = re.search(
            r"cannot serve \S+: it (serves [\w, ]+, not float64|has no (term|operator) \w+)$", str(error)
        )
        if name is not None and "cannot serve" in str(error) and (by_design or name not in REQUIRED):
            pytest.skip(str(error))
        raise


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    """Its own random numbers for every test, the same for every backend of it."""
    test = re.sub(rf"\b({'|'.join(BACKENDS)})\b-?", "", request.node.nodeid)
    return torch.Generator().manual_seed(zlib.crc32(test.encode()))

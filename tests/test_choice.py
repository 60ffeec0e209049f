"""Which backend serves a CUDA tensor, and what is said where none does: tables of docs/backends.md."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fused_rank
from fused_rank.ops import cuda_library, dispatch, triton_library

ABSENT = "it is not there"
HALVES = [torch.bfloat16, torch.float16]


def stand_in(name: str, missing: str | None, load: Any = None) -> dispatch.Backend:
    """A backend as it would be on a machine with a GPU."""
    library = {"triton": triton_library, "cuda": cuda_library}[name]
    return dispatch.Backend(name, "fused_rank_eager", "cuda", missing, library.DTYPES, load=load)


def chosen(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, **backends: dispatch.Backend) -> str:
    for name, backend in backends.items():
        monkeypatch.setitem(dispatch.BACKENDS, name, backend)
    tensor: Any = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
    return dispatch.select("contrastive_loss", tensor).name


@pytest.mark.parametrize(
    ("triton", "cuda", "narrow", "double"),
    [
        (True, True, "triton", "cuda"),
        (True, False, "triton", "eager"),
        (False, True, "cuda", "cuda"),
        (False, False, "eager", "eager"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES, torch.float64], ids=str)
def test_the_backend_of_a_cuda_tensor(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, triton: bool, cuda: bool, narrow: str, double: str
) -> None:
    there = {
        name: stand_in(name, None if here else ABSENT) for name, here in (("triton", triton), ("cuda", cuda))
    }
    assert chosen(monkeypatch, dtype, **there) == (double if dtype == torch.float64 else narrow)


def test_kernels_that_do_not_load_are_passed_over_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = stand_in("cuda", None, load=lambda: "its symbols are missing")
    assert chosen(monkeypatch, torch.float64, triton=stand_in("triton", None), cuda=cuda) == "eager"
    message = dispatch._fallback_reason("cuda", torch.float64)
    assert message is not None
    assert "triton: it serves bfloat16, float16, float32, not float64" in message
    assert "cuda: its symbols are missing" in message


def test_kernels_are_loaded_for_cuda_tensors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> str | None:
        raise AssertionError("loaded")

    monkeypatch.setitem(dispatch.BACKENDS, "cuda", stand_in("cuda", None, load=load))
    fused_rank.ContrastiveLoss()(torch.randn(6, 3), torch.arange(6) // 2)
    with pytest.raises(AssertionError, match="loaded"):
        chosen(monkeypatch, torch.float64)

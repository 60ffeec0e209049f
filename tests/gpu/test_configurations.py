"""Every tile shape of the table, and smaller ones, on ragged inputs: programs in two orders, sums of products rounded
once or twice, and NaN in every tensor that nobody wrote."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from ..losses import CONTRASTIVE, RANKED_LIST, TRIPLET
from .kernel_checks import copies_check, hard_check, loss_check, near_copies_check, semihard_check, topk_check
from .pair_checks import TERMS, check

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("triton_kernels")

SHAPES = [(70, 131, 19), (66, 35, 135)]  # M × N × D, one for each seed
SMALL_SHAPES = [(35, 50, 19), (34, 17, 35)]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Check = Callable[..., None]


def wide_check(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """Rows too wide for a gradient on chip."""
    width = 135 if dtype == torch.float32 else 270
    check(replace(TERMS["margin"], form="symmetric", shape=(*shape[:2], width)), dtype)


def positives_check(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """A term of positives alone, whose statistics take more warps."""
    check(replace(TERMS["softplus_positives"], shape=shape), dtype)


# by kernel of the table of tiles: what runs it
TILED: dict[str, list[Check]] = {
    "statistics": [partial(loss_check, CONTRASTIVE, {"pos_margin": 0.4, "neg_margin": 1.3}, "two-set")],
    "statistics in eight warps": [positives_check],
    "gradient": [
        partial(loss_check, RANKED_LIST, {"gradient": "exact", "temperature_pos": 5.0}, "self"),
        partial(loss_check, RANKED_LIST, {"gradient": "query"}, "two-set"),
    ],
    "coefficients": [wide_check],
    "wide_pull": [wide_check],
    "near": [near_copies_check],
    "selection": [partial(loss_check, TRIPLET, {"mining": "hard"}, "self")],
    "strip": [partial(loss_check, TRIPLET, {"mining": "semihard"}, "two-set")],
    "strip_pull": [partial(loss_check, TRIPLET, {"mining": "all"}, "self")],
}
# by kernel of the table of blocks
BLOCKED: dict[str, list[Check]] = {
    "rank": [semihard_check, partial(loss_check, TRIPLET, {"mining": "all"}, shape=(70, 75, 19))],
    "topk": [partial(topk_check, 5), partial(topk_check, 31), partial(topk_check, 40)],
    "listed": [copies_check],
    "edges": [partial(loss_check, TRIPLET, {"mining": "semihard"}, shape=(70, 75, 19))],
}


def as_shipped() -> Any:
    """configs.py as it is without the interpreter, for which it has shapes of its own."""
    from fused_rank.triton import configs

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRITON_INTERPRET", raising=False)
        spec = importlib.util.spec_from_file_location(
            "fused_rank.triton.configs_as_shipped", configs.__file__
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)  # where its dataclasses look for it
        spec.loader.exec_module(module)
    return module


def tile_cases() -> list[Any]:
    """(kernel, dtype or element bytes, which of its shapes or "small")."""
    table = as_shipped()._TABLE
    choices = [(*key, place) for key, entries in table.items() for place in [*range(len(entries)), "small"]]
    return [pytest.param(*choice, id="-".join(map(str, choice))) for choice in choices]


@pytest.fixture(params=[0, 1], ids=lambda seed: f"seed{seed}")
def seed(request: pytest.FixtureRequest) -> Any:
    from . import strict_interpreter

    with strict_interpreter.options(seed=request.param, contract=request.param == 0):
        yield request.param


class Entries(list[Any]):
    """A kernel's part of the table, and whether anybody looked into it."""

    used = False

    def __iter__(self) -> Iterator[Any]:
        self.used = True
        return super().__iter__()


@pytest.mark.parametrize(("kernel", "rows_of", "place"), tile_cases())
def test_tiles(
    kernel: str, rows_of: int | torch.dtype, place: int | str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fused_rank.triton import configs

    entries = configs._TABLE[kernel, rows_of]
    if isinstance(place, int):
        shape, rows = entries[place][1], SHAPES[seed]
    else:
        shape, rows = replace(entries[0][1], rows=16, columns=16, depth=16, features=16), SMALL_SHAPES[seed]
    if kernel == "gradient":  # wider rows take strips
        rows = (*rows[:2], min(rows[2], 128))
    only = Entries([(float("inf"), shape)])
    monkeypatch.setitem(configs._TABLE, (kernel, rows_of), only)
    own = [dtype for dtype in DTYPES if (kernel, dtype) in configs._TABLE]
    general = [dtype for dtype in DTYPES if dtype.itemsize == rows_of and dtype not in own]
    for dtype in [rows_of] if rows_of in own else general:
        for one in TILED[kernel]:  # no such kernel: a new one needs its checks here
            only.used = False
            one(dtype=dtype, shape=rows)
            assert only.used
    if kernel == "selection":
        hard_check()


@pytest.mark.parametrize("kernel", BLOCKED)
def test_blocks_as_shipped(kernel: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from fused_rank.triton import configs

    monkeypatch.setitem(configs._BLOCKS, kernel, as_shipped()._BLOCKS[kernel])
    for one in BLOCKED[kernel]:
        one()


def test_every_kernel_of_the_tables_has_checks() -> None:
    shipped = as_shipped()
    assert {kernel for kernel, _ in shipped._TABLE} <= set(TILED)
    assert set(shipped._BLOCKS) == set(BLOCKED)

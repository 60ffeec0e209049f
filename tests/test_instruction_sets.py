"""Every compiled variant that this CPU can run selects the same pairs and computes the same losses."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

import fused_rank

from .test_packaging import python

VARIANTS = ("base", "avx2", "avx512")
RUNNABLE = {"AVX512": 3, "AVX2": 2}.get(torch.backends.cpu.get_cpu_capability(), 1)

SCRIPT = """
import sys, torch, fused_rank
from fused_rank import mining, retrieval

results = {}
generator = torch.Generator().manual_seed(7)
labels = torch.randint(0, 60, (300,), generator=generator)
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    random = torch.randn(300, 19, generator=generator).to(dtype)
    lattice = torch.randint(-2, 3, (300, 19), generator=generator).to(dtype)
    for name, x in (("random", random), ("lattice", lattice)):
        key = f"{name} {dtype} "
        hard, semihard = mining.hard(x, labels, normalize=False), mining.semihard(x, labels, normalize=False)
        results[key + "indices"] = [*hard, *semihard, retrieval.topk(x, None, 9, exclude_self=True).indices]
        losses = {
            "query": fused_rank.RankedListLoss(),
            "exact": fused_rank.RankedListLoss(gradient="exact", temperature_pos=3.0),
            "contrastive": fused_rank.ContrastiveLoss(),
            **{m: fused_rank.TripletMarginLoss(mining=m) for m in ("semihard", "hard", "all", "semihard_all")},
            "soft": fused_rank.TripletMarginLoss(mining="all", soft_margin=True),
        }
        for loss_name, loss in losses.items():
            leaf = x.clone().requires_grad_()
            value = loss(leaf, labels)
            value.backward()
            results[key + loss_name] = [value.detach(), leaf.grad]
torch.save(results, sys.argv[1])
"""


@functools.cache
def results(variant: str, folder: Path) -> dict[str, list[torch.Tensor]]:
    file = folder / f"{variant}.pt"
    run = python("-c", SCRIPT, str(file), FUSED_RANK_ISA=variant, FUSED_RANK_BACKEND="cpp")
    assert run.returncode == 0, run.stderr
    loaded: dict[str, list[torch.Tensor]] = torch.load(file)
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.fixture
def variants(folder: Path) -> dict[str, dict[str, list[torch.Tensor]]]:
    package = Path(fused_rank.__file__).parent
    built = [v for v in VARIANTS[:RUNNABLE] if (package / f"_C_{v}.abi3.so").is_file()]
    if len(built) < 2:
        pytest.skip(f"variants built that this CPU runs: {built or 'none'}")
    return {variant: results(variant, folder) for variant in built}


def test_the_same_pairs_are_selected(variants: dict[str, dict[str, list[torch.Tensor]]]) -> None:
    first, *others = variants.values()
    for other in others:
        for key in (k for k in first if k.endswith("indices")):
            for a, b in zip(first[key], other[key], strict=True):
                assert torch.equal(a, b), key


def test_losses_and_gradients_agree(variants: dict[str, dict[str, list[torch.Tensor]]]) -> None:
    first, *others = variants.values()
    for other in others:
        for key in (k for k in first if k.startswith("random") and not k.endswith("indices")):
            rounding = {"float64": 1e-11, "float32": 2e-5, "bfloat16": 1e-2}[key.split()[1].split(".")[1]]
            for a, b in zip(first[key], other[key], strict=True):
                assert (a - b).norm() <= rounding * b.norm(), key


def test_info_names_the_variant(variants: dict[str, dict[str, list[torch.Tensor]]]) -> None:
    for variant in variants:
        run = python("-m", "fused_rank", "info", FUSED_RANK_ISA=variant)
        assert run.returncode == 0, run.stderr
        assert variant in run.stdout

"""The package's commands on a GPU: `pytest -m gpu`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]
ROOT = Path(__file__).parent.parent.parent


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_selfcheck_passes_in_five_minutes() -> None:
    shown = command("fused_rank", "selfcheck", "--device", "cuda")
    assert "all agree with fp64" in shown
    assert float(shown.rsplit("checks in ", 1)[1].split()[0]) < 300


def test_benchmark_runs(tmp_path: Path) -> None:
    command("bench", "--device", "cuda", "--quick", "--out", str(tmp_path))
    assert torch.cuda.get_device_name() in (tmp_path / "gpu.md").read_text()

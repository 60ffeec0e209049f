"""What the examples rest on: no class or module of the test is trained on, and a collapse that is one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fused_rank import TripletMarginLoss

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import code_pairs
import collapse
import digit_classes
import digit_training


@pytest.mark.parametrize("split", range(len(digit_classes.SPLITS)))
def test_digits_of_the_test_are_never_trained_on(split: int) -> None:
    held, data = digit_classes.SPLITS[split], digit_classes.load(split)
    trained, choosing = (set((part[1] % 10).tolist()) for part in (data.train, data.validation))
    assert trained | choosing | set(held.test) == set(range(10))
    assert trained.isdisjoint(choosing)
    assert (trained | choosing).isdisjoint(held.test)
    assert {6, 9} <= set(held.test)
    assert int(data.train[1].max()) < digit_training.MOST_CLASSES


def test_views_of_a_symmetric_digit_share_their_class() -> None:
    image = torch.zeros(2, 1, 8, 8)
    _, classes = digit_classes.turned(image, torch.tensor([8, 3]), views=8)
    assert classes.view(8, 2)[:, 0].unique().tolist() == [8, 18]
    assert classes.view(8, 2)[:, 1].tolist() == [3 + 10 * view for view in range(8)]


def test_modules_are_held_out_whole() -> None:
    pairs = [code_pairs.Pair(f"m{k % 40}", str(k), str(k)) for k in range(1000)]
    parts = code_pairs.split_by_module(pairs, (0.15, 0.1), seed=0)
    assert sorted(k for part in parts for k in part) == list(range(1000))
    modules = [{pairs[k].module for k in part} for part in parts]
    assert modules[0].isdisjoint(modules[1] | modules[2])
    assert modules[1].isdisjoint(modules[2])
    assert [len(part) for part in parts] == [150, 100, 750]


def test_definitions_are_found_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "if True:\n    try:\n        class Outer:\n            '''An outer class, documented.'''\n"
        "            def inner(self):\n                '''An inner function, documented.'''\n                return 1\n"
        "    except ValueError:\n        def other():\n"
        "            '''In the handler, documented too.'''\n            return 2\n"
    )
    found = code_pairs._documented(path, "module.py")
    assert [pair.docstring for pair in found] == [
        "An outer class, documented.",
        "An inner function, documented.",
        "In the handler, documented too.",
    ]
    assert found[1].source == "def inner(self):\nreturn 1"


def test_the_collapse_is_one_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_training, "STEPS", 20)
    hard = collapse.watched("hard", TripletMarginLoss(0.2, "hard", normalize=False), 5e-2)
    semi = collapse.watched("semi-hard", TripletMarginLoss(0.2, normalize=False), 5e-2)
    assert hard.loss[-1] == pytest.approx(0.2, abs=1e-6)
    assert hard.recall[-1] < 0.3  # chance is a quarter
    assert hard.told is not None
    assert hard.health[-1].spread < 1e-3
    assert hard.triplets[-1].hard == hard.triplets[-1].triplets
    assert semi.told is None
    assert semi.recall[-1] > 0.8

"""mining.partners and mining.offline against exhaustive search and pytorch-metric-learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fused_rank import mining

from . import brute
from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import case_id
from .tolerances import TOLERANCES

SHAPES = [(1, 1), (65, 63), (257, 40)]
WORDS = ("easy", "semihard", "hard")
COMBINATIONS = [(p, n) for p in WORDS for n in WORDS if (p, n) != ("semihard", "semihard")]
combinations = pytest.mark.parametrize("words", COMBINATIONS, ids=str)
forms = pytest.mark.parametrize("form", ["self", "two-set", "plain"])


def search(inputs: Inputs, words: tuple[str, str], normalize: bool) -> tuple[list[int], list[int]]:
    d, same, other = brute.squared(inputs, normalize)
    result: tuple[list[int], list[int]] = ([], [])
    for row, p, n in zip(d.tolist(), same, other, strict=True):
        chosen = {"positive": -1, "negative": -1}
        candidates = {"positive": p.nonzero().flatten().tolist(), "negative": n.nonzero().flatten().tolist()}
        given = dict(zip(chosen, words, strict=True))
        for side in sorted(chosen, key=lambda name: given[name] == "semihard"):
            members, farthest = candidates[side], (given[side] == "hard") == (side == "positive")
            if given[side] == "semihard":
                (reference,) = (chosen[name] for name in chosen if name != side)
                farthest = side == "positive"
                members = [
                    j
                    for j in members
                    if reference >= 0 and (row[j] < row[reference] if farthest else row[j] > row[reference])
                ]
            chosen[side] = min(members, key=lambda j: (-row[j] if farthest else row[j], j), default=-1)
        for found, side in zip(result, chosen, strict=True):
            found.append(chosen[side])
    return result


def as_lists(found: Any) -> tuple[list[int], list[int]]:
    return found.positive.tolist(), found.negative.tolist()


@combinations
@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("metric", [("euclidean", False), ("cosine", True)], ids=str)
def test_partners(
    metric: tuple[str, bool],
    shape: tuple[int, int],
    form: str,
    words: tuple[Any, Any],
    backend: Backend,
    generator: torch.Generator,
) -> None:
    inputs = make_inputs(form, *shape, 9, torch.float64, generator)
    ours = inputs.to(backend.device)
    found = mining.partners(
        ours.embeddings,
        ours.labels,
        **ours.keywords,
        positive=words[0],
        negative=words[1],
        metric=metric[0],  # type: ignore[arg-type]
        normalize=metric[1],
    )
    assert as_lists(found) == search(inputs, words, metric[1])


@combinations
@pytest.mark.parametrize("sizes", [(70, 3), (300, 5), (1, 1, 1), (90,)], ids=str)
def test_ties_in_fp32_go_to_the_lowest_index(
    sizes: tuple[int, ...], words: tuple[Any, Any], backend: Backend, generator: torch.Generator
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    inputs = Inputs(torch.randint(0, 4, (len(labels), 3), generator=generator).float(), labels)
    ours = inputs.to(backend.device)
    found = mining.partners(
        ours.embeddings, ours.labels, positive=words[0], negative=words[1], normalize=False
    )
    assert as_lists(found) == search(inputs, words, False)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
def test_hard_twice_is_mining_hard(dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("two-set", 150, 130, 40, dtype, generator).to(backend.device)
    ours = mining.partners(inputs.embeddings, inputs.labels, **inputs.keywords)
    assert as_lists(ours) == as_lists(mining.hard(inputs.embeddings, inputs.labels, **inputs.keywords))


def test_rows_that_are_not_finite_have_no_partner_and_are_none(
    backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("self", 60, 0, 5, torch.float32, generator)
    inputs.embeddings[7] = torch.nan
    ours = inputs.to(backend.device)
    for positive, negative in (("hard", "easy"), ("easy", "hard")):
        found = mining.partners(
            ours.embeddings,
            ours.labels,
            positive=positive,  # type: ignore[arg-type]
            negative=negative,  # type: ignore[arg-type]
        )
        for rows in found:
            assert int(rows[7]) == -1
            assert not (rows == 7).any()


@combinations
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_pytorch_metric_learning(
    form: str, words: tuple[Any, Any], backend: Backend, generator: torch.Generator
) -> None:
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import BatchEasyHardMiner

    inputs = make_inputs(form, 90, 70, 9, torch.float64, generator)
    miner = BatchEasyHardMiner(*words, distance=LpDistance())
    gallery = (inputs.gallery, inputs.gallery_labels)
    a, p, _, n = miner(inputs.embeddings, inputs.labels, *gallery)
    ours = inputs.to(backend.device)
    found = mining.partners(
        ours.embeddings, ours.labels, **ours.keywords, positive=words[0], negative=words[1]
    )
    real = ((found.positive >= 0) & (found.negative >= 0)).nonzero().flatten()
    mine = [t.tolist() for t in (real, found.positive[real], found.negative[real])]
    assert mine == [a.tolist(), p.tolist(), n.tolist()]


def kept(found: Any) -> list[list[int]]:
    anchors = ((found.positive >= 0) & (found.negative >= 0)).nonzero().flatten()
    return [t.tolist() for t in (anchors, found.positive[anchors], found.negative[anchors])]


@combinations
@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_offline_is_partners_of_the_whole(
    chunk: int, form: str, words: tuple[Any, Any], backend: Backend, generator: torch.Generator
) -> None:
    if backend.interpreted and chunk < 64:
        pytest.skip("interpreted kernels are slow")
    dtype = torch.float32 if backend.name == "triton" else torch.float64
    inputs = make_inputs(form, 100, 150, 9, dtype, generator, per_class=12).to(backend.device)
    options: dict[str, Any] = {"positive": words[0], "negative": words[1]}
    whole = mining.partners(inputs.embeddings, inputs.labels, **inputs.keywords, **options)
    assert inputs.labels is not None
    found = mining.offline(
        inputs.embeddings, inputs.labels, **inputs.keywords, **options, chunk=chunk, progress=False
    )
    assert all(t.device.type == "cpu" and t.dtype == torch.int64 for t in found)
    assert [t.tolist() for t in found] == kept(whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("label_dtype", [np.int64, np.int32, np.uint8])
def test_offline_reads_memory_mapped_files(dtype: Any, label_dtype: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((300, 10)).astype(dtype)
    labels = random.integers(0, 40, 300).astype(label_dtype)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "labels.npy", labels)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    mapped_labels = np.load(tmp_path / "labels.npy", mmap_mode="r")
    found = mining.offline(
        mapped[:120], mapped_labels[:120], mapped[120:], mapped_labels[120:], chunk=50, progress=False
    )
    tensors = torch.from_numpy(rows), torch.from_numpy(labels).long()
    whole = mining.partners(
        tensors[0][:120], tensors[1][:120], gallery=tensors[0][120:], gallery_labels=tensors[1][120:]
    )
    assert [t.tolist() for t in found] == kept(whole)


def test_offline_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    x, labels = torch.randn(40, 3), torch.arange(40) // 4
    mining.offline(x, labels, chunk=10)
    assert "mining: 100%" in capsys.readouterr().err
    mining.offline(x, labels, chunk=10, progress=False)
    assert capsys.readouterr().err == ""


def test_offline_needs_no_tqdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    mining.offline(torch.randn(40, 3), torch.arange(40) // 4, chunk=10)
    assert capsys.readouterr().err == ""


X, LABELS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positive": "band"}, "positive: expected one of 'easy', 'semihard', 'hard'"),
        ({"positive": "semihard", "negative": "semihard"}, "negative: expected 'easy' or 'hard'"),
        ({"normalize": 1}, "normalize: expected True or False"),
    ],
    ids=str,
)
@pytest.mark.parametrize("function", [mining.partners, mining.offline])
def test_wrong_words_are_named(function: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        function(X, LABELS, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 0}, "chunk: expected an integer >= 1"),
        ({"queries": [[1.0]]}, "queries: expected a torch.Tensor or a numpy array, got list"),
        ({"queries": np.zeros(4)}, "queries: expected 2 dimensions"),
        ({"queries": np.zeros((4, 3), dtype=np.int32)}, "queries: expected dtype float32"),
        ({"labels": LABELS[:3]}, r"labels: expected shape \(4,\) as queries has, got \(3,\)"),
        ({"labels": np.zeros(4)}, "labels: expected an integer dtype"),
        ({"gallery": X}, "gallery_labels: expected labels with a gallery"),
        ({"gallery": X[:, :2], "gallery_labels": LABELS}, "gallery: expected width 3 as queries has"),
    ],
    ids=str,
)
def test_what_offline_cannot_read_is_named(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"queries": X, "labels": LABELS} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        mining.offline(**given)


def test_partners_are_not_differentiated(backend: Backend) -> None:
    x = torch.randn(12, 4, device=backend.device, requires_grad=True)
    labels: Tensor = torch.arange(12, device=backend.device) // 3
    assert not any(t.requires_grad for t in mining.partners(x, labels))

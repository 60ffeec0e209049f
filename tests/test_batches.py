"""PKSampler: K × P batches, every row in every epoch, as few batches as it takes. EmbeddingMemory: the last rows."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import fused_rank
from fused_rank.batches import EmbeddingMemory, PKSampler

from .conftest import Backend
from .inputs import make_inputs

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def labels_of(sizes: list[int]) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(sizes)) * 7 - 3, torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


@given(SIZES, st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(0, 5))
def test_an_epoch(sizes: list[int], classes: int, samples: int, replicas: int, epoch: int) -> None:
    if classes > len(sizes):
        classes = len(sizes)
    labels = labels_of(sizes)
    shares = []
    for rank in range(replicas):
        sampler = PKSampler(labels, classes, samples, seed=3, num_replicas=replicas, rank=rank)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    assert len({len(share) for share in shares}) == 1
    batches = [batch for share in shares for batch in share]
    for batch in batches:
        assert sorted(Counter(labels[batch].tolist()).values()) == [samples] * classes
    assert {row for batch in batches for row in batch} == set(range(len(labels)))
    groups = [-(-size // samples) for size in sizes]
    fewest = max(max(groups), -(-sum(groups) // classes))
    assert len(batches) == -(-fewest // replicas) * replicas


@given(SIZES, st.integers(1, 4))
def test_no_row_comes_twice_in_a_batch_where_its_class_is_large_enough(
    sizes: list[int], samples: int
) -> None:
    labels = labels_of(sizes)
    large = {label for label, size in Counter(labels.tolist()).items() if size >= samples}
    for batch in PKSampler(labels, 1, samples):
        if int(labels[batch[0]]) in large:
            assert len(set(batch)) == samples
        else:  # every row of a small class as often as every other, or once more
            times = Counter(batch).values()
            assert max(times) - min(times) <= 1


@pytest.mark.parametrize("small", ["repeat", "short", "skip"])
def test_small_classes(small: Any) -> None:
    labels = labels_of([9, 2, 1, 8, 7])
    seen, sizes = set(), set()
    for batch in PKSampler(labels, 3, 4, small=small):
        seen |= set(batch)
        sizes |= set(Counter(labels[batch].tolist()).values())
    assert sizes == {"repeat": {4}, "short": {4, 2, 1}, "skip": {4}}[small]
    assert len(seen) == (24 if small == "skip" else 27)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    labels = labels_of([12] * 10)

    def epoch(number: int, seed: int = 0) -> list[list[int]]:
        sampler = PKSampler(labels, 4, 3, seed=seed)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert epoch(1) != epoch(0, seed=1)


def test_batches_mix_classes() -> None:
    """Of 40 equal classes each pair meets about as often as any other."""
    labels = torch.arange(40).repeat_interleave(40)
    met = torch.zeros(40, 40)
    for number in range(40):
        sampler = PKSampler(labels, 8, 8)
        sampler.set_epoch(number)
        for batch in sampler:
            present = labels[batch].unique()
            met[present.unsqueeze(1), present] += 1
    pairs = met[~torch.eye(40, dtype=torch.bool)]
    assert float(pairs.std() / pairs.mean()) < 0.3
    assert pairs.min() > 0


def test_one_class_much_larger_than_the_others() -> None:
    labels = labels_of([400, 3, 3, 3])
    batches = list(PKSampler(labels, 2, 4))
    assert len(batches) == 100  # the large class is in every one
    others = Counter(label for batch in batches for label in labels[batch].unique().tolist() if label != -3)
    assert max(others.values()) < 60  # and its company changes


def test_a_data_loader_takes_it() -> None:
    labels = labels_of([10, 11, 12, 13])
    data = TensorDataset(torch.arange(len(labels)), labels)
    sampler = PKSampler(labels, 2, 5)
    loader = DataLoader(data, batch_sampler=sampler)
    assert len(loader) == len(sampler)
    for rows, found in loader:
        assert rows.shape == (10,)
        assert torch.equal(labels[rows], found)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_data_loader_that_batches_its_batches_is_told_of(batch_size: int) -> None:
    """Nothing fails before the loss there: tensors take lists of rows, and linear layers any number of dimensions."""
    labels = labels_of([10, 11, 12, 13])
    data = TensorDataset(torch.randn(len(labels), 6), labels)
    loader = DataLoader(data, sampler=PKSampler(labels, 2, 5), batch_size=batch_size)  # type: ignore[arg-type]
    x, found = next(iter(loader))
    for loss_fn in (fused_rank.TripletMarginLoss(), fused_rank.SupConLoss()):
        with pytest.raises(ValueError, match=rf"one batch .*, got {batch_size} in one.* batch_sampler="):
            loss_fn(torch.nn.Linear(6, 4)(x), found)


def test_torch_distributed_gives_rank_and_size() -> None:
    code = """
import torch
from fused_rank.batches import PKSampler
store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
assert (PKSampler([0, 0, 1, 1], 2, 2).num_replicas, PKSampler([0, 0, 1, 1], 2, 2).rank) == (1, 0)
torch.distributed.get_world_size, torch.distributed.get_rank = lambda: 3, lambda: 2
sampler = PKSampler([0, 0, 1, 1], 2, 2)
assert (sampler.num_replicas, sampler.rank, len(sampler)) == (3, 2, 1)
torch.distributed.destroy_process_group()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes: expected an integer >= 1"),
        ({"samples": 2.0}, "samples: expected an integer, got float"),
        ({"classes": 4}, "labels: expected at least 4 classes, got 3"),
        ({"samples": 3, "small": "skip"}, "labels: expected at least 2 classes of at least 3 rows, got 1"),
        ({"small": "drop"}, "small: expected one of 'repeat', 'short', 'skip'"),
        ({"num_replicas": 2, "rank": 2}, "rank: expected 0 to 1, got 2"),
        ({"num_replicas": 2, "rank": "1"}, "rank: expected an integer, got str"),
        ({"seed": 0.5}, "seed: expected an integer, got float"),
        ({"labels": torch.zeros(3)}, "labels: expected an integer dtype"),
        ({"labels": []}, "labels: expected at least one"),
        ({"labels": ["a", "b"]}, "labels: expected integers, .*, got list of str; number the classes first"),
        (
            {"labels": np.array(["a", "b"])},
            "labels: expected integers, .*, got ndarray of str_; number the classes",
        ),
        ({"labels": [[0, 1], [1]]}, "labels: expected integers, .*, got list of list"),
        ({"labels": None}, "labels: expected integers, .*, got NoneType"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"labels": [0, 0, 1, 1, 1, 2], "classes": 2, "samples": 2} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        PKSampler(**given)


def test_memory_keeps_the_last_rows() -> None:
    memory, rows, labels = EmbeddingMemory(10), torch.randn(37, 3), torch.arange(37)
    end = 0
    for size in (4, 3, 5, 25):
        memory.add(rows[end : end + size], labels[end : end + size])
        end += size
        kept = slice(max(end - 10, 0), end)
        assert torch.equal(memory.embeddings, rows[kept])
        assert torch.equal(memory.labels, labels[kept])
        assert len(memory) == min(end, 10)
    memory.clear()
    assert len(memory) == 0
    memory.add(torch.randn(2, 5), torch.tensor([1, 2]))  # another width is fine again
    assert memory.embeddings.shape == (2, 5)


def test_memory_is_the_gallery_of_a_loss(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("two-set", 24, 40, 6, torch.float32, generator).to(backend.device)
    assert inputs.gallery is not None
    assert inputs.gallery_labels is not None
    memory = EmbeddingMemory(64)
    memory.add(inputs.gallery.requires_grad_(), inputs.gallery_labels)
    assert not memory.embeddings.requires_grad
    x = inputs.embeddings.clone().requires_grad_()
    assert inputs.labels is not None
    loss = fused_rank.TripletMarginLoss()(x, inputs.labels, **memory.keywords)
    memory.add(x, inputs.labels)  # what the loss keeps for backward stays as it was
    loss.backward()
    expected = inputs.embeddings.clone().requires_grad_()
    fused_rank.TripletMarginLoss()(
        expected, inputs.labels, gallery=inputs.gallery.detach(), gallery_labels=inputs.gallery_labels
    ).backward()
    assert torch.equal(x.grad, expected.grad)  # type: ignore[arg-type]
    assert inputs.gallery.grad is None


def test_memory_keeps_no_view_of_a_batch() -> None:
    memory, x = EmbeddingMemory(4), torch.zeros(2, 3)
    memory.add(x, torch.tensor([0, 1]))
    x += 1
    assert not memory.embeddings.any()


@pytest.mark.parametrize("size", [3, 8, 20])
def test_memory_in_a_state_dict(size: int) -> None:
    memory = EmbeddingMemory(8)
    memory.add(torch.randn(6, 3, dtype=torch.float64), torch.arange(6))
    other = torch.nn.Sequential(EmbeddingMemory(size))
    other.load_state_dict(torch.nn.Sequential(memory).state_dict())
    loaded = other[0]
    assert isinstance(loaded, EmbeddingMemory)
    assert torch.equal(loaded.embeddings, memory.embeddings[-size:])
    assert torch.equal(loaded.labels, memory.labels[-size:])
    assert loaded.embeddings.dtype == torch.float64
    loaded.add(torch.randn(2, 3), torch.arange(2))
    assert len(memory) == 6
    loaded.load_state_dict(EmbeddingMemory(2).state_dict())
    assert len(loaded) == 0


def test_memory_keeps_its_dtype() -> None:
    memory = EmbeddingMemory(8)
    memory.add(torch.randn(2, 3), torch.tensor([1, 2], dtype=torch.int32))
    memory.add(torch.randn(2, 3).bfloat16(), torch.tensor([1, 2]))
    assert memory.embeddings.dtype == torch.float32
    assert memory.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(2).long(), "embeddings: expected width 3 as those before, got 4"),
        (torch.zeros(2, 3), torch.zeros(3).long(), r"labels: expected shape \(2,\)"),
        (torch.zeros(3), torch.zeros(3).long(), "embeddings: expected 2 dimensions"),
    ],
    ids=str,
)
def test_memory_refuses_what_does_not_fit(rows: Any, labels: Any, message: str) -> None:
    memory = EmbeddingMemory(8)
    memory.add(torch.zeros(1, 3), torch.zeros(1).long())
    with pytest.raises((ValueError, TypeError), match=message):
        memory.add(rows, labels)

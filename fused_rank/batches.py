"""Batches that ranking losses can learn from: K classes × P samples, and a memory of past batches as the gallery."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from .ops.option_checks import check_choice, check_count, check_integer
from .ops.validation import check_labels, check_rows

__all__ = ["EmbeddingMemory", "PKSampler"]

Small: TypeAlias = Literal["repeat", "short", "skip"]
_SMALL: tuple[Small, ...] = ("repeat", "short", "skip")


class PKSampler(Sampler[list[int]]):
    """Batches of K classes with P rows each: ``DataLoader(data, batch_sampler=PKSampler(...))``, without a batch size.

    As ``sampler=`` a DataLoader would put whole batches together once more. The sampler cannot see that; a loss that
    gets such a batch, [batches, rows, width], says so.

    Within an epoch every row comes at least once, in as few batches as that takes: a class of n rows is shuffled and
    cut into ⌈n / P⌉ groups of P, the last filled up with rows that came before; a batch takes one group of each of K
    different classes, classes with more left more often. Where too few classes have anything left, others come again.

    Args:
        labels: one integer for each row of the data set, in a tensor, an array or a sequence.
        classes: K, classes in a batch.
        samples: P, rows of each class in a batch.
        seed: of the shuffling; with the epoch it decides everything.
        small: a class of fewer than P rows is filled up with ``"repeat"``-ed rows, gives a ``"short"`` group of what it
            has, or is left out (``"skip"``).
        num_replicas: processes that share an epoch; None: those of torch.distributed where it is initialised, else 1.
        rank: of this process; None: torch.distributed's, else 0. Each gets its own batches of the same epoch, all
            equally many.

    Call `set_epoch` before each epoch, in every process alike, as for torch's DistributedSampler; otherwise each is the
    same. `len` is the number of batches of this process.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came; too few classes is one.

    >>> import torch
    >>> labels = torch.arange(40) // 10
    >>> sampler = PKSampler(labels, classes=2, samples=4)
    >>> batches = list(sampler)
    >>> len(batches) == len(sampler) == 6
    True
    >>> [int(n) for n in labels[batches[0]].unique(return_counts=True)[1]]
    [4, 4]
    >>> sorted({row for batch in batches for row in batch}) == list(range(40))
    True
    >>> loader = torch.utils.data.DataLoader(torch.randn(40, 3), batch_sampler=sampler)
    >>> next(iter(loader)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        labels: Tensor | Sequence[int],
        classes: int,
        samples: int,
        *,
        seed: int = 0,
        small: Small = "repeat",
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes = check_count("classes", classes)
        self.samples = samples = check_count("samples", samples)
        self.seed, self.epoch = check_integer("seed", seed), 0
        check_choice("small", small, _SMALL)
        rows = _integers(labels)
        self.num_replicas, self.rank = _world(num_replicas, rank)
        _, self._member, counts = torch.unique(rows, return_inverse=True, return_counts=True)
        self._first = counts.cumsum(0) - counts
        self._count, self._short = counts, small == "short"
        groups = -(-counts // samples)
        self._groups = groups.masked_fill(counts < samples, 0) if small == "skip" else groups
        self._able = self._groups > 0
        if int(self._able.sum()) < classes:
            raise ValueError(
                f"labels: expected at least {classes} classes"
                f"{f' of at least {samples} rows' if small == 'skip' else ''}, got {int(self._able.sum())}"
            )
        needed = max(int(self._groups.max()), -(-int(self._groups.sum()) // classes))
        self._batches = -(-needed // self.num_replicas)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration shuffles for."""
        self.epoch = check_integer("epoch", epoch)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        random = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        shuffled = torch.randperm(len(self._member), generator=random)
        rows = shuffled[self._member[shuffled].argsort(stable=True)]  # by class, shuffled within
        taken = torch.zeros_like(self._count)  # groups of each class so far
        total = self._batches * self.num_replicas
        for batch in range(total):
            chosen = self._choose(self._groups - taken, total - batch, random)
            if batch % self.num_replicas == self.rank:
                yield self._rows(rows, chosen, taken[chosen])
            taken[chosen] += 1

    def _choose(self, left: Tensor, batches: int, random: torch.Generator) -> Tensor:
        """K classes for one of the `batches` that are left: those that have to be in every one, then at random."""
        weight = left.clamp(min=0).double()
        key = torch.rand(len(left), dtype=torch.float64, generator=random).clamp_(min=1e-300)
        # Efraimidis and Spirakis (2006): the K largest are a sample without replacement by weight.
        key = torch.where(weight > 0, key.log() / weight.clamp(min=1), key - 2e3)
        key = torch.where(left >= batches, torch.inf, key).masked_fill_(~self._able, -torch.inf)
        return key.topk(self.classes).indices

    def _rows(self, rows: Tensor, chosen: Tensor, taken: Tensor) -> list[int]:
        slot = torch.arange(self.samples)
        count = self._count[chosen].unsqueeze(1)
        at = (taken.unsqueeze(1) * self.samples + slot) % count  # after the last row the first comes again
        found = rows[self._first[chosen].unsqueeze(1) + at]
        if self._short:
            found = found[slot < count]
        batch: list[int] = found.flatten().tolist()
        return batch


def _integers(labels: Any) -> Tensor:
    """One a row, on the CPU, from a tensor, an array or a sequence."""
    try:
        rows = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError):
        kinds = sorted({type(label).__name__ for label in labels}) if isinstance(labels, Collection) else []
        of = f" of {' and '.join(kinds)}; number the classes first" if kinds else ""
        raise TypeError(
            f"labels: expected integers, one for each row of the data set, got {type(labels).__name__}{of}"
        ) from None
    if rows.numel() == 0:
        raise ValueError(f"labels: expected at least one, got shape {tuple(rows.shape)}")
    return check_labels("labels", rows, "the data set", rows.reshape(-1, 1))


def _world(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
    if num_replicas is None:
        num_replicas = torch.distributed.get_world_size() if parallel else 1
    if rank is None:
        rank = torch.distributed.get_rank() if parallel else 0
    num_replicas, rank = check_count("num_replicas", num_replicas), check_integer("rank", rank)
    if not 0 <= rank < num_replicas:
        raise ValueError(f"rank: expected 0 to {num_replicas - 1}, got {rank}")
    return num_replicas, rank


class EmbeddingMemory(nn.Module):
    """The last `size` embeddings and their labels, as a gallery for the next batches (Wang et al., 2020: XBM).

    Embeddings drift slowly, so past batches give negatives and positives without another pass through the encoder. They
    require no grad. Compare with the memory first and add the batch afterwards: a row that meets itself would be its
    own perfect positive.

    Args:
        size: how many rows to keep; the oldest go first.

    `keywords` is what losses and miners take: ``loss(x, labels, **memory.keywords)``. An empty memory is no gallery
    (``if len(memory):``). Rows are kept in the dtype and on the device of the first that came, and are part of the
    `state_dict`. Earlier galleries stay as they were when something is added, so `add` may come before `backward`.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> from fused_rank import ContrastiveLoss
    >>> memory, loss_fn = EmbeddingMemory(64), ContrastiveLoss()
    >>> for step in range(3):
    ...     x, labels = torch.randn(32, 8, requires_grad=True), torch.arange(32) // 4
    ...     loss = loss_fn(x, labels)
    ...     if len(memory):
    ...         loss = loss + loss_fn(x, labels, **memory.keywords)
    ...     memory.add(x, labels)
    ...     loss.backward()
    >>> len(memory), memory.embeddings.requires_grad
    (64, False)
    """

    embeddings: Tensor
    labels: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = check_count("size", size)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.register_buffer("embeddings", torch.empty(0, 0))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def keywords(self) -> dict[str, Tensor]:
        """`gallery` and `gallery_labels`, the oldest first."""
        return {"gallery": self.embeddings, "gallery_labels": self.labels}

    def add(self, embeddings: Tensor, labels: Tensor) -> None:
        """Keep these rows, [M, D] and [M]; the last of them if there are more than `size`."""
        check_rows("embeddings", embeddings)
        labels = check_labels("labels", labels, "embeddings", embeddings)
        if len(self) and embeddings.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"embeddings: expected width {self.embeddings.shape[1]} as those before, got {embeddings.shape[1]}"
            )
        rows, labels = embeddings.detach()[-self.size :], labels.detach()[-self.size :]
        if len(self):
            kept = slice(max(len(self) + rows.shape[0] - self.size, 0), None)
            rows = torch.cat((self.embeddings[kept], rows.to(self.embeddings)))
            labels = torch.cat((self.labels[kept], labels.to(self.labels)))
            self.embeddings, self.labels = rows, labels
        else:
            self.embeddings, self.labels = rows.clone(), labels.clone()

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """However many rows were kept when the state was saved; the last `size` of them stay."""
        for name in ("embeddings", "labels"):
            if prefix + name in state_dict:
                saved = state_dict[prefix + name][-self.size :]
                state_dict[prefix + name] = saved
                own = getattr(self, name)
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

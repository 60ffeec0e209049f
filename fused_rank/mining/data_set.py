"""Mining over a whole data set, some rows at a time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch
from torch import Tensor

from ..ops.dispatch import select
from ..ops.option_checks import check_choice, check_count, check_flag
from ..ops.options import HARDNESSES, METRICS, Hardness, Metric
from ..ops.validation import check_labels, check_rows, check_same_space, check_values
from .batch import choose
from .results import Triplets

if TYPE_CHECKING:
    import numpy

Array: TypeAlias = Union[Tensor, "numpy.ndarray[Any, Any]"]


def offline(
    queries: Array,
    labels: Array,
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    *,
    positive: Hardness = "hard",
    negative: Hardness = "hard",
    metric: Metric = "euclidean",
    normalize: bool = True,
    chunk: int = 16384,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Triplets:
    """One triplet for every query of a data set that need not fit into memory, chosen as by `partners`.

    Both sides are read `chunk` rows at a time and every chunk of queries meets every chunk of the gallery; what is kept
    is one distance and one index for each query. Memory: O(chunk·D + M).

    Args:
        queries: [M, D], a tensor or a numpy array, memory-mapped if it is large; float32, float64, float16 or, as a
            tensor, bfloat16.
        labels: integers [M].
        gallery: [N, D]; None: every query chooses among the other queries.
        gallery_labels: integers [N].
        positive: ``"hard"``, ``"semihard"`` or ``"easy"``, as in `partners`.
        negative: alike. The hardest negatives of a large data set are often mislabelled; ``"semihard"`` is safer.
        metric: ``"euclidean"``, ``"sqeuclidean"`` or ``"cosine"`` (1 − cos, always normalised).
        normalize: divide rows by their norms first.
        chunk: rows read at a time, on each side.
        device: where chunks are compared; None: where a tensor is, the CPU for an array.
        progress: show a bar, where tqdm is installed.

    Returns:
        Triplets as int64 on the CPU, by query; queries without a positive or a negative are left out. Distances
        in different chunks may differ in the last bit, so ties across chunks are ties within rounding; they go to the
        lowest index, as everywhere.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [0.5]])
    >>> offline(x, torch.tensor([0, 0, 1, 1]), normalize=False, chunk=2, progress=False)
    Triplets(anchor=tensor([0, 1, 2, 3]), positive=tensor([1, 0, 3, 2]), negative=tensor([3, 3, 1, 0]))
    """
    check_choice("positive", positive, HARDNESSES)
    check_choice("negative", negative, HARDNESSES)
    check_choice("metric", metric, METRICS)
    normalize = check_flag("normalize", normalize)
    progress = check_flag("progress", progress)
    chunk = check_count("chunk", chunk)
    if positive == negative == "semihard":
        raise ValueError(
            "negative: expected 'easy' or 'hard' where the positive is 'semihard', got 'semihard'"
        )
    if (gallery is None) != (gallery_labels is None):
        raise ValueError("gallery_labels: expected labels with a gallery and None without one")
    own = _Side("queries", queries, "labels", labels, device)
    other = own
    if gallery is not None:
        other = _Side("gallery", gallery, "gallery_labels", gallery_labels, device)
        first = own.rows(slice(0, 1)), other.rows(slice(0, 1))
        own.dtype = other.dtype = check_same_space("gallery", first[1], "queries", first[0])[0].dtype
    with _bar(progress, 2 * len(own.parts(chunk)) * len(other.parts(chunk))) as advance:
        search = _Search(own, other, chunk, metric, normalize, advance)
        (positives, _), (negatives, _) = choose(search, positive, negative)
    anchors = ((positives >= 0) & (negatives >= 0)).nonzero().squeeze(1)
    return Triplets(anchors, positives[anchors], negatives[anchors])


class _Side:
    """Rows and labels, read where they are and handed out as tensors."""

    def __init__(
        self, name: str, rows: Array, labels_name: str, labels: Any, device: torch.device | str | None
    ) -> None:
        if not hasattr(rows, "shape"):
            raise TypeError(f"{name}: expected a torch.Tensor or a numpy array, got {type(rows).__name__}")
        if len(rows.shape) != 2:
            raise ValueError(f"{name}: expected 2 dimensions [rows, width], got shape {tuple(rows.shape)}")
        self._rows, self._device = rows, device
        self.dtype: torch.dtype | None = None  # of the rows handed out; None: their own
        self.size = int(rows.shape[0])
        first = self.rows(slice(0, 1))
        check_rows(name, first)
        check_values(name, first)
        if not isinstance(labels, Tensor) and hasattr(labels, "dtype"):
            labels = _tensor(labels)
        if isinstance(labels, Tensor):
            labels = labels.to(first.device)
        self.labels = check_labels(labels_name, labels, name, first.expand(self.size, -1))

    def parts(self, chunk: int) -> list[slice]:
        return [slice(at, min(at + chunk, self.size)) for at in range(0, self.size, chunk)]

    def rows(self, part: slice) -> Tensor:
        rows = self._rows[part]
        tensor = rows.detach() if isinstance(rows, Tensor) else _tensor(rows)
        return tensor.to(self._device, self.dtype or tensor.dtype)


def _tensor(array: Any) -> Tensor:
    """A copy: a memory-mapped file is read here, and stays untouched."""
    return torch.from_numpy(array.copy())


class _Search:
    """The `find` of `choose`, over all chunks."""

    def __init__(
        self,
        own: _Side,
        other: _Side,
        chunk: int,
        metric: Metric,
        normalize: bool,
        advance: Callable[[int], object],
    ) -> None:
        self.own, self.other, self.chunk = own, other, chunk
        self.options, self.advance = (metric, normalize), advance

    def __call__(
        self, positives: bool, farthest: bool, above: Tensor | None, below: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        found = [
            self._queries(part, positives, farthest, above, below) for part in self.own.parts(self.chunk)
        ]
        rows, values = (torch.cat(parts) for parts in zip(*found, strict=True))
        return rows, values

    def _queries(
        self, part: slice, positives: bool, farthest: bool, above: Tensor | None, below: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Rows and squared distances of the partners of a chunk of queries, on the CPU."""
        queries, labels = self.own.rows(part), self.own.labels[part]
        limits = [None if limit is None else limit[part].to(queries.device) for limit in (above, below)]
        find = select("mining.partners", queries).find_partner
        best: tuple[Tensor, Tensor] | None = None
        for other, gallery in self._galleries(part):
            rows, values = find(queries, labels, *gallery, positives, farthest, *limits, *self.options)
            rows = torch.where(rows >= 0, rows + other.start, rows)
            if best is None:
                best = rows, values
            else:  # chunks come in order: an equal one later is a higher index
                better = (values > best[1]) if farthest else (values < best[1])
                better |= best[0] < 0
                best = torch.where(better, rows, best[0]), torch.where(better, values, best[1])
            self.advance(1)
        assert best is not None
        return best[0].cpu(), best[1].cpu()

    def _galleries(self, part: slice) -> Iterator[tuple[slice, tuple[Tensor | None, Tensor | None]]]:
        for other in self.other.parts(self.chunk):
            if self.other is self.own and other == part:
                yield other, (None, None)  # self form: no row is its own partner
            else:
                yield other, (self.other.rows(other), self.other.labels[other])


def _bar(progress: bool, total: int) -> AbstractContextManager[Callable[[int], object]]:
    """Something to call after each pair of chunks."""
    if progress:
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            return _Tqdm(tqdm(total=total, desc="mining", unit="chunk"))
    return nullcontext(lambda _: None)


class _Tqdm(AbstractContextManager[Callable[[int], object]]):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __enter__(self) -> Callable[[int], object]:
        update: Callable[[int], object] = self._bar.update
        return update

    def __exit__(self, *_: object) -> None:
        self._bar.close()

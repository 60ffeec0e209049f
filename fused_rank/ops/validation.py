"""Every check of the data that a user passes, once, before any backend sees it; the options' are in `option_checks`.

`ValueError` for a wrong value or shape, `TypeError` for a wrong type or dtype: the argument, what was
expected, what came. The messages are built only on failure, and the conditions are plain comparisons that
torch.compile can trace.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .option_checks import check_number

ROW_LIMIT = 1 << 24  # engines keep row numbers in fp32 where they stand beside distances
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_rows(name: str, x: Any) -> None:
    """Embeddings: a non-empty dense matrix of floats."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")
    if x.dtype not in _FLOATS:
        raise TypeError(f"{name}: expected dtype float32, float64, bfloat16 or float16, got {_dtype(x)}")
    if x.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense (strided) tensor, got layout {x.layout}")
    if x.dim() != 2:
        raise ValueError(f"{name}: expected 2 dimensions [rows, width], got shape {tuple(x.shape)}")
    if x.shape[0] == 0 or x.shape[1] == 0:
        empty_memory = name == "gallery" and x.shape[0] == x.shape[1] == 0
        hint = "; an EmbeddingMemory is a gallery once len(memory) > 0" if empty_memory else ""
        raise ValueError(
            f"{name}: expected at least one row and one column, got shape {tuple(x.shape)}{hint}"
        )
    if x.shape[0] >= ROW_LIMIT:
        raise ValueError(f"{name}: expected fewer than {ROW_LIMIT} rows, got {x.shape[0]}")
    if not torch.compiler.is_compiling() and _is_transformed(x):
        raise RuntimeError(
            f"{name}: forward-mode differentiation and torch.func transforms are not supported; use backward()"
        )


def _is_transformed(x: Tensor) -> bool:
    """Inside torch.func.* or a dual level a custom operator would quietly lose the derivative."""
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def check_values(name: str, x: Tensor) -> None:
    """For results whose length depends on the data, or that are numbers of Python's."""
    if x.is_meta:
        raise ValueError(
            f"{name}: expected values, which this result depends on, got the meta device's shape alone"
        )


def check_same_space(name: str, y: Tensor, other_name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of rows that are compared with each other, same width and device; x and y in one dtype, the wider."""
    if y.shape[1] != x.shape[1]:
        raise ValueError(f"{name}: expected width {x.shape[1]} as {other_name} has, got {y.shape[1]}")
    if y.device != x.device:
        raise ValueError(f"{name}: expected device {x.device} as {other_name} has, got {y.device}")
    if y.dtype == x.dtype:
        return x, y
    dtype = torch.promote_types(x.dtype, y.dtype)  # of bf16 and fp16 it is fp32
    return x.to(dtype), y.to(dtype)


def check_row_for_each(name: str, y: Any, other_name: str, x: Tensor) -> None:
    """Rows of a space of their own, one for each of x: any width, any dtype of embeddings."""
    check_rows(name, y)
    if y.shape[0] != x.shape[0]:
        raise ValueError(f"{name}: expected {x.shape[0]} rows as {other_name} has, got {y.shape[0]}")
    if y.device != x.device:
        raise ValueError(f"{name}: expected device {x.device} as {other_name} has, got {y.device}")


def check_labels(name: str, labels: Any, rows_name: str, rows: Tensor) -> Tensor:
    """Integer labels, one a row; returned as int64."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor of integers, got {type(labels).__name__}")
    if labels.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense (strided) tensor, got layout {labels.layout}")
    if labels.dtype != torch.int64:
        if labels.is_floating_point() or labels.is_complex():
            raise TypeError(f"{name}: expected an integer dtype, got {_dtype(labels)}")
        labels = labels.to(torch.int64)
    if labels.dim() != 1 or labels.shape[0] != rows.shape[0]:
        raise ValueError(
            f"{name}: expected shape ({rows.shape[0]},) as {rows_name} has, got {tuple(labels.shape)}"
        )
    if labels.device != rows.device:
        raise ValueError(f"{name}: expected device {rows.device} as {rows_name} has, got {labels.device}")
    return cast(Tensor, labels)


def check_pairs(
    embeddings: Any,
    labels: Any,
    gallery: Any,
    gallery_labels: Any,
    *,
    labels_needed: bool = True,
    name: str = "embeddings",
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The four data arguments of every loss and miner: both sides' rows in one dtype, their labels as int64."""
    _refuse_batches_of_batches(name, embeddings, labels)
    check_rows(name, embeddings)
    if gallery is None:
        if gallery_labels is not None:
            raise ValueError("gallery_labels: expected None without a gallery, got labels")
        if labels is None:
            if labels_needed:
                raise ValueError(
                    "labels: expected a tensor of integers (they may be left out only with a gallery), got None"
                )
            return embeddings, None, None, None
        return embeddings, check_labels("labels", labels, name, embeddings), None, None
    check_rows("gallery", gallery)
    embeddings, gallery = check_same_space("gallery", gallery, name, embeddings)
    if labels is None and gallery_labels is None:
        if labels_needed and embeddings.shape[0] != gallery.shape[0]:
            raise ValueError(
                f"gallery: expected {embeddings.shape[0]} rows as {name} has (without labels row i's positive is"
                f" gallery row i), got {gallery.shape[0]}"
            )
        return embeddings, None, _apart(embeddings, gallery), None
    if labels is None:
        raise ValueError("labels: expected a tensor of integers since gallery_labels were given, got None")
    if gallery_labels is None:
        raise ValueError(
            "gallery_labels: expected a tensor of integers since labels and a gallery were given, got None"
        )
    labels = check_labels("labels", labels, name, embeddings)
    gallery_labels = check_labels("gallery_labels", gallery_labels, "gallery", gallery)
    return embeddings, labels, _apart(embeddings, gallery), _apart(labels, gallery_labels)


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """`second` as an object of its own: torch.compile takes no tensor for two arguments of one autograd.Function."""
    return second.view_as(second) if second is first and torch.compiler.is_compiling() else second


def _refuse_batches_of_batches(name: str, embeddings: Any, labels: Any) -> None:
    """What a data loader collates whose sampler gives whole batches."""
    if not isinstance(embeddings, Tensor) or not isinstance(labels, Tensor) or labels.dim() != 2:
        return
    if embeddings.dim() == 3 and embeddings.shape[:2] == labels.shape:
        raise ValueError(
            f"{name}: expected one batch [rows, width], got {embeddings.shape[0]} in one, shape"
            f" {tuple(embeddings.shape)}; a DataLoader takes a PKSampler as batch_sampler=, not as sampler="
        )


def check_indices(name: str, index: Any, length: int | None, rows_name: str, rows: Tensor) -> Tensor:
    """Indices [L] into `rows`, returned as int64; their range is read where that needs no device synchronisation."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor of integer indices, got {type(index).__name__}")
    if index.dtype != torch.int64:
        if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
            raise TypeError(f"{name}: expected an integer dtype, got {_dtype(index)}")
        index = index.to(torch.int64)
    if index.dim() != 1 or (length is not None and index.shape[0] != length):
        expected = "1 dimension" if length is None else f"shape ({length},)"
        raise ValueError(f"{name}: expected {expected}, got shape {tuple(index.shape)}")
    if index.device != rows.device:
        raise ValueError(f"{name}: expected device {rows.device} as {rows_name} has, got {index.device}")
    if not torch.compiler.is_compiling() and index.device.type == "cpu" and index.shape[0] > 0:
        low, high = (int(bound) for bound in index.aminmax())
        if low < 0 or high >= rows.shape[0]:
            wrong = low if low < 0 else high
            raise ValueError(f"{name}: expected indices in [0, {rows.shape[0]}) of {rows_name}, got {wrong}")
    return cast(Tensor, index).contiguous()


def refuse_outside(index: Tensor, rows: int) -> None:
    """For operators, whose indices come unchecked under torch.compile and on GPUs: -1 must not mean the last row."""
    inside = ((index >= 0) & (index < rows)).all()
    message = f"fused_rank: an index is out of range for {rows} rows"
    if index.device.type == "cpu" and not inside:
        raise RuntimeError(message)
    torch._assert_async(inside, message)


def check_triplets(
    triplets: Any, embeddings: Tensor, gallery: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Explicit (anchor, positive, negative) indices, contiguous."""
    if not isinstance(triplets, (tuple, list)) or len(triplets) != 3:
        raise TypeError(
            f"triplets: expected three index tensors (anchor, positive, negative), got {_brief(triplets)}"
        )
    anchor = check_indices("triplets[0]", triplets[0], None, "embeddings", embeddings)
    name, rows = ("embeddings", embeddings) if gallery is None else ("gallery", gallery)
    positive = check_indices("triplets[1]", triplets[1], anchor.shape[0], name, rows)
    negative = check_indices("triplets[2]", triplets[2], anchor.shape[0], name, rows)
    return anchor, positive, negative


def check_border(beta: Any, labels: Tensor | None, embeddings: Tensor) -> Tensor:
    """The margin loss's β: a number or a tensor of one, returned with no dimension, or one a class, [C]."""
    if not isinstance(beta, Tensor):
        return embeddings.new_tensor(check_number("beta", beta), dtype=torch.float64)
    if not beta.is_floating_point():
        raise TypeError(f"beta: expected a floating-point tensor, got {_dtype(beta)}")
    if beta.device != embeddings.device:
        raise ValueError(f"beta: expected device {embeddings.device} as embeddings has, got {beta.device}")
    if beta.numel() == 1:
        return beta.reshape(())
    if beta.dim() != 1 or labels is None:
        expected = "one number" if labels is None else "one number or one a class"
        raise ValueError(f"beta: expected {expected}, got shape {tuple(beta.shape)}")
    check_class_numbers(labels, beta.shape[0])
    return beta


def check_class_numbers(labels: Tensor, classes: int) -> None:
    """Labels that index classes; read only where that needs no device synchronisation."""
    if torch.compiler.is_compiling() or labels.device.type != "cpu":
        return
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise ValueError(f"labels: expected values in [0, {classes}) as beta has one a class, got {wrong}")


def check_listed_pairs(
    pairs: Any, embeddings: Tensor, gallery: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Explicit pairs (i, j, same): indices, contiguous, and a bool for each."""
    if not isinstance(pairs, (tuple, list)) or len(pairs) != 3:
        raise TypeError(f"pairs: expected three tensors (i, j, same), got {_brief(pairs)}")
    i = check_indices("pairs[0]", pairs[0], None, "embeddings", embeddings)
    name, rows = ("embeddings", embeddings) if gallery is None else ("gallery", gallery)
    j = check_indices("pairs[1]", pairs[1], i.shape[0], name, rows)
    same = pairs[2]
    if not isinstance(same, Tensor):
        raise TypeError(f"pairs[2]: expected a torch.Tensor of bool, got {type(same).__name__}")
    if same.dtype != torch.bool:
        raise TypeError(f"pairs[2]: expected dtype bool, got {_dtype(same)}")
    if same.shape != i.shape:
        raise ValueError(f"pairs[2]: expected shape ({i.shape[0]},), got {tuple(same.shape)}")
    if same.device != i.device:
        raise ValueError(f"pairs[2]: expected device {i.device} as pairs[0] has, got {same.device}")
    return i, j, same


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _brief(value: object) -> str:
    return f"{len(value)} of them" if isinstance(value, (tuple, list)) else type(value).__name__

"""Every check of what a user passes, once, before any backend sees it.

`ValueError` for a wrong value or shape, `TypeError` for a wrong type or dtype: the argument, what was
expected, what came. The messages are built only on failure, and the conditions are plain comparisons that
torch.compile can trace.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

ROW_LIMIT = 1 << 24  # engines keep row numbers in fp32 where they stand beside distances
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """A word out of a few."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def check_number(name: str, value: object, *, minimum: float = 0.0) -> None:
    """A finite Python number, not below `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not minimum <= value < float("inf"):
        raise ValueError(f"{name}: expected a finite number >= {minimum:g}, got {value!r}")


def check_positive(name: str, value: object, *, below: float = float("inf")) -> None:
    """A Python number above 0 and below `below`."""
    check_number(name, value)
    if not 0 < cast(float, value) < below:
        bound = "" if below == float("inf") else f" and < {below:g}"
        raise ValueError(f"{name}: expected a number > 0{bound}, got {value!r}")


def check_temperature(value: object) -> None:
    """A Python number above 0, or a floating-point tensor of one, whose value is read on the CPU only."""
    if not isinstance(value, Tensor):
        return check_positive("temperature", value)
    if value.numel() != 1 or not value.is_floating_point():
        raise ValueError(
            f"temperature: expected a number or a floating-point tensor of one, got {value.dtype} {list(value.shape)}"
        )
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        check_positive("temperature", value.item())
    return None


def check_count(name: str, value: object) -> None:
    """A positive integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected an integer >= 1, got {value}")


def check_flag(name: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


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
        raise ValueError(f"{name}: expected at least one row and one column, got shape {tuple(x.shape)}")
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


def check_same_space(name: str, y: Tensor, other_name: str, x: Tensor) -> None:
    """Two sets of rows that are compared with each other: same width, dtype and device."""
    if y.shape[1] != x.shape[1]:
        raise ValueError(f"{name}: expected width {x.shape[1]} as {other_name} has, got {y.shape[1]}")
    if y.dtype != x.dtype:
        raise TypeError(f"{name}: expected dtype {_dtype(x)} as {other_name} has, got {_dtype(y)}")
    if y.device != x.device:
        raise ValueError(f"{name}: expected device {x.device} as {other_name} has, got {y.device}")


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
) -> tuple[Tensor | None, Tensor | None]:
    """The four data arguments of every loss and miner; returns the labels of both sides as int64."""
    check_rows(name, embeddings)
    if gallery is None:
        if gallery_labels is not None:
            raise ValueError("gallery_labels: expected None without a gallery, got labels")
        if labels is None:
            if labels_needed:
                raise ValueError(
                    "labels: expected a tensor of integers (they may be left out only with a gallery), got None"
                )
            return None, None
        return check_labels("labels", labels, name, embeddings), None
    check_rows("gallery", gallery)
    check_same_space("gallery", gallery, name, embeddings)
    if labels is None and gallery_labels is None:
        if labels_needed and embeddings.shape[0] != gallery.shape[0]:
            raise ValueError(
                f"gallery: expected {embeddings.shape[0]} rows as {name} has (without labels row i's positive is"
                f" gallery row i), got {gallery.shape[0]}"
            )
        return None, None
    if labels is None:
        raise ValueError("labels: expected a tensor of integers since gallery_labels were given, got None")
    if gallery_labels is None:
        raise ValueError(
            "gallery_labels: expected a tensor of integers since labels and a gallery were given, got None"
        )
    return (
        check_labels("labels", labels, name, embeddings),
        check_labels("gallery_labels", gallery_labels, "gallery", gallery),
    )


def check_indices(name: str, index: Any, length: int | None, rows_name: str, rows: Tensor) -> None:
    """int64 indices [L] into `rows`; their range is read only where that needs no device synchronisation."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor of int64 indices, got {type(index).__name__}")
    if index.dtype != torch.int64:
        raise TypeError(f"{name}: expected dtype int64, got {_dtype(index)}")
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
    anchor, positive, negative = triplets
    check_indices("triplets[0]", anchor, None, "embeddings", embeddings)
    name, rows = ("embeddings", embeddings) if gallery is None else ("gallery", gallery)
    check_indices("triplets[1]", positive, anchor.shape[0], name, rows)
    check_indices("triplets[2]", negative, anchor.shape[0], name, rows)
    return anchor.contiguous(), positive.contiguous(), negative.contiguous()


def check_border(beta: Any, labels: Tensor | None, embeddings: Tensor) -> Tensor:
    """The margin loss's β: a number or a tensor of one, returned with no dimension, or one a class, [C]."""
    if not isinstance(beta, Tensor):
        check_number("beta", beta)
        return embeddings.new_tensor(beta, dtype=torch.float64)
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
    i, j, same = pairs
    check_indices("pairs[0]", i, None, "embeddings", embeddings)
    name, rows = ("embeddings", embeddings) if gallery is None else ("gallery", gallery)
    check_indices("pairs[1]", j, i.shape[0], name, rows)
    if not isinstance(same, Tensor):
        raise TypeError(f"pairs[2]: expected a torch.Tensor of bool, got {type(same).__name__}")
    if same.dtype != torch.bool:
        raise TypeError(f"pairs[2]: expected dtype bool, got {_dtype(same)}")
    if same.shape != i.shape:
        raise ValueError(f"pairs[2]: expected shape ({i.shape[0]},), got {tuple(same.shape)}")
    if same.device != i.device:
        raise ValueError(f"pairs[2]: expected device {i.device} as pairs[0] has, got {same.device}")
    return i.contiguous(), j.contiguous(), same


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _brief(value: object) -> str:
    return f"{len(value)} of them" if isinstance(value, (tuple, list)) else type(value).__name__

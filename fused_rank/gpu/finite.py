"""Which rows can be multiplied at all."""

from torch import Tensor

_LARGEST_SQUARE = 7e37  # |x|² of a row, such that distances stay in fp32


def finite_rows(square: Tensor, dtype_bytes: int, *, unit_rows: bool) -> Tensor:
    """From |x|² in fp64 [R]: rows without NaN or inf whose product, unless they are normalised first, stays in
    range.
    """
    if unit_rows or dtype_bytes == 8:
        return square.isfinite()
    return square < _LARGEST_SQUARE

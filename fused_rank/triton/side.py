"""What kernels see of one side of the pair matrix."""

from typing import NamedTuple

from torch import Tensor


class Side(NamedTuple):
    """An operand of R rows, all in sorted order. One argument of a kernel: `x.rows`, `x.norm`, …"""

    rows: Tensor  # [R, D] fp32: centred; 16-bit: as it came
    low: Tensor  # [R, D] fp32: what `rows` lost to rounding; for 16-bit rows unused (it is `rows` again)
    inverse: Tensor  # [R] fp32: factor of a 16-bit row, 1/|x| or 1; for fp32 rows unused (1)
    norm: Tensor  # [R] fp32: |row|² of the row as it enters the product, times its factor²
    finite: Tensor  # [R] uint8: 0 for a row with NaN or inf, which is stored as zero
    index: Tensor  # type: ignore[assignment]  # [R] int64: the original row
    cluster: Tensor  # [R] int32: the tight cluster that the row is in, -1 for none
    local: Tensor  # [R, D] fp32: the row less its cluster's centre, 0 without; unused (`norm` again) where none are
    local_norm: Tensor  # [R] fp32: |local|²; alike

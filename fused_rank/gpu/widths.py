"""How wide rows may be for their gradient to stay on chip while a sweep computes it."""

import torch


def on_chip(dtype: torch.dtype, width: int) -> bool:
    """Wider rows take coefficients through memory, strip by strip, and nothing is made ahead in the forward pass.

    Kept on chip, distances are computed once for every slice of the features: on paper (`bench/roofline.py`) strips win
    from the second slice on in fp32, from the third on in 16 bit.
    """
    return width <= (128 if dtype.itemsize == 4 else 256)

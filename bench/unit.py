"""The yardstick: u, the time the machine's own matrix product takes for the 2B²D FLOP of one B×B×D product.

u is timed as 512³ products on the same threads and in the same rounds as the cases, so a slow moment of the
machine slows both, and "1.2 × 2u" means the same on every machine.
"""

import torch

EDGE = 512
PRODUCT_FLOP = 2 * EDGE**3
MOST_PRODUCTS = 64  # about a tenth of a second on two cores; more would only repeat it


def flop(rows: int, width: int) -> int:
    """FLOP of u: one product of B×D by D×B."""
    return 2 * rows * rows * width


def products(rows: int, width: int) -> int:
    """How many 512³ products one timing of u runs: as many as u holds, within 8 and MOST_PRODUCTS."""
    return max(8, min(MOST_PRODUCTS, round(flop(rows, width) / PRODUCT_FLOP)))


def seconds(measured: float, rows: int, width: int) -> float:
    """u in seconds, from the time that `products(rows, width)` products took."""
    return measured * flop(rows, width) / (products(rows, width) * PRODUCT_FLOP)


class Probe:
    """One timing of u: `products` 512³ matrix products into the same buffer."""

    def __init__(self, rows: int, width: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.left = torch.randn(EDGE, EDGE, generator=generator)
        self.right = torch.randn(EDGE, EDGE, generator=generator)
        self.out = torch.empty(EDGE, EDGE)
        self.count = products(rows, width)

    def __call__(self) -> None:
        for _ in range(self.count):
            torch.mm(self.left, self.right, out=self.out)

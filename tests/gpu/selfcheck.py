"""`python -m tests.gpu.selfcheck`: the selfcheck of the Triton kernels without a GPU, in the strict interpreter.

Triton's own multiplies bf16 numbers by their bits: distances survive that, since every pair then looks close and is
computed again, inner products do not.
"""

from __future__ import annotations

import sys

from ..conftest import interpreted_kernels

if __name__ == "__main__":
    from fused_rank.__main__ import main

    sys.argv[1:] = ["selfcheck", "--device", "cpu", "--backend", "triton", "--jobs", "1"]
    with interpreted_kernels():
        sys.exit(main())

"""The sweeps on a GPU's tensor cores; imported on the first call that needs them, never by ``import fused_rank``."""

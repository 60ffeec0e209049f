"""The sweeps in CUDA C++; imported on the first call that needs them, never by ``import fused_rank``."""

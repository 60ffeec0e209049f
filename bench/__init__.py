"""Side-by-side benchmarks: fused_rank against eager PyTorch and its peers. Run as `python -m bench`."""

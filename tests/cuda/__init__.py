"""The CUDA kernels as nvcc compiles them, for GPUs that are not here."""

"""Kernels compiled ahead of time for GPUs that are not here, and what the machine code says of them.

Compilation happens in processes of its own (`worker`), because Triton's interpreter, once chosen, holds for a process.
"""

"""What the GPU backends share: torch alone, no kernels."""

"""The tests of fused_rank; helpers are imported relatively."""

"""Triton kernels, one file an op. Imported at the first call only: Triton may be missing."""

"""Kernels of the CPU device, compiled by numba. Imported through `library.py` only, and only for large models."""

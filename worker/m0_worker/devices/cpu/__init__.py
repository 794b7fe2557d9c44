"""The CPU device: NumPy, the BLAS below it, and for large models compiled kernels. For CI, debugging and parity."""

from m0_worker.devices.cpu.device import DENSE_BUDGET, CpuDevice

__all__ = ["DENSE_BUDGET", "CpuDevice"]

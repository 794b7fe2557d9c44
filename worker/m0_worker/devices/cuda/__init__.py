"""The NVIDIA device: quantized weights in VRAM, kernels of our own, one launch a token. CuPy is imported only here."""

from m0_worker.devices.cuda.device import CudaDevice

__all__ = ["CudaDevice"]

"""The NVIDIA device: quantized weights in VRAM, kernels of our own, one launch a token. CuPy is imported only here."""

import os
import tempfile

# CuPy makes a folder for its own kernels when it is imported, and cannot be imported where the home is read-only. None
# of them is used here, so a folder that exists anyway will do.
os.environ.setdefault("CUPY_CACHE_DIR", tempfile.gettempdir())

from m0_worker.devices.cuda.device import CudaDevice

__all__ = ["CudaDevice"]

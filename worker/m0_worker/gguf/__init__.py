"""GGUF v3 files: header, metadata, tensors in place, dequantization."""

from m0_worker.gguf.dequantize import dequantize
from m0_worker.gguf.errors import GgufError
from m0_worker.gguf.header import TensorInfo
from m0_worker.gguf.reader import GgufFile
from m0_worker.gguf.types import GgmlType

__all__ = ["GgmlType", "GgufError", "GgufFile", "TensorInfo", "dequantize"]

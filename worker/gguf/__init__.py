"""GGUF v3 files: header, metadata, tensors in place, dequantization."""

from worker.gguf.dequantize import dequantize
from worker.gguf.errors import GgufError
from worker.gguf.header import TensorInfo
from worker.gguf.reader import GgufFile
from worker.gguf.types import GgmlType

__all__ = ["GgmlType", "GgufError", "GgufFile", "TensorInfo", "dequantize"]

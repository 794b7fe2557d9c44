"""ggml's own quantizers and dequantizers, for T1 and for files whose bytes must be ggml's."""

from __future__ import annotations

import ctypes

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from m0_parity.llamacpp.abi import library

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_ROWS = {
    "Q4_0": "dequantize_row_q4_0",
    "Q4_1": "dequantize_row_q4_1",
    "Q5_0": "dequantize_row_q5_0",
    "Q5_1": "dequantize_row_q5_1",
    "Q8_0": "dequantize_row_q8_0",
    "Q4_K": "dequantize_row_q4_K",
    "Q5_K": "dequantize_row_q5_K",
    "Q6_K": "dequantize_row_q6_K",
    "MXFP4": "dequantize_row_mxfp4",
    "F16": "ggml_fp16_to_fp32_row",
    "BF16": "ggml_bf16_to_fp32_row",
}


def dequantize_row(raw: Bytes, kind: str) -> Floats:
    """Decode whole blocks of ``kind`` into a flat float32 array with ggml's own code."""
    raw = np.ascontiguousarray(raw).reshape(-1)
    if kind == "F32":
        return raw.view(np.float32).copy()
    elements, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    out = np.empty(raw.size // size * elements, dtype=np.float32)
    function = library()[_ROWS[kind]]
    function.restype = None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function(raw.ctypes.data, out.ctypes.data, out.size)
    return out


def quantize(values: Floats, kind: str) -> Bytes:
    """Encode rows (..., columns) with ggml's own quantizer; the result has shape (..., bytes per row)."""
    elements, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    rows = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, values.shape[-1])
    out = np.empty((*values.shape[:-1], values.shape[-1] // elements * size), dtype=np.uint8)
    written = library().ggml_quantize_chunk(
        int(GGMLQuantizationType[kind]), rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1], None
    )
    if written != out.nbytes:
        raise ValueError(f"ggml wrote {written} bytes of {kind}, {out.nbytes} were due")
    return out

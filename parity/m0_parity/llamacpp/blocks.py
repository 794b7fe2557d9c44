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

_FLOAT_ROWS = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}


class _CpuTraits(ctypes.Structure):
    """ggml_type_traits_cpu, as far as it is read here."""

    _fields_ = (("from_float", ctypes.c_void_p), ("vec_dot", ctypes.c_void_p), ("vec_dot_type", ctypes.c_int))


def activation_type(kind: str) -> str:
    """The type to which ggml's CPU code rounds the activations that meet weights of ``kind``."""
    traits = library().ggml_get_type_traits_cpu
    traits.restype, traits.argtypes = ctypes.POINTER(_CpuTraits), [ctypes.c_int]
    return GGMLQuantizationType(traits(int(GGMLQuantizationType[kind])).contents.vec_dot_type).name


def dequantize_row(raw: Bytes, kind: str) -> Floats:
    """Decode whole blocks of ``kind`` into a flat float32 array with ggml's own code."""
    raw = np.ascontiguousarray(raw).reshape(-1)
    if kind == "F32":
        return raw.view(np.float32).copy()
    elements, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    out = np.empty(raw.size // size * elements, dtype=np.float32)
    name = kind.removesuffix("_K").lower() + "_K" * kind.endswith("_K")  # ggml writes q4_0, but q4_K
    function = library()[_FLOAT_ROWS.get(kind, f"dequantize_row_{name}")]
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

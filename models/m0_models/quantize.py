"""Quantizers: float arrays to the block formats of GGUF, vectorised in NumPy; by the gguf package or by `encoders`."""

from __future__ import annotations

from typing import Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType, quants

from m0_models.encoders import ENCODERS, Bytes, Floats

__all__ = ["TYPES", "Bytes", "Floats", "block_size", "dequantize", "quantize"]

TYPES: Final = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", *ENCODERS)
"""Every type that a tensor of a model made here can have."""


def block_size(name: str) -> tuple[int, int]:
    """Return (elements, bytes) of one block of type ``name``."""
    elements, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return int(elements), int(size)


def quantize(values: Floats, name: str) -> Bytes:
    """Encode ``values`` of shape (..., columns) as type ``name``; the result has shape (..., bytes per row).

    Raises:
        ValueError: the columns are no multiple of the type's block, or the type is unknown.
    """
    if name not in TYPES:
        raise ValueError(f"unknown tensor type {name!r}: one of {', '.join(TYPES)}")
    elements, size = block_size(name)
    columns = values.shape[-1]
    if columns % elements:
        raise ValueError(f"{columns} columns cannot be cut into {name} blocks of {elements}")
    rows = np.ascontiguousarray(values, dtype=np.float32)
    if name == "F32":
        return rows.view(np.uint8)
    if name == "F16":
        return rows.astype(np.float16).view(np.uint8)
    encode = ENCODERS.get(name)
    if encode is None:
        return np.asarray(quants.quantize(rows, GGMLQuantizationType[name])).view(np.uint8)
    blocks = encode(rows.reshape(-1, elements))
    return blocks.reshape(*values.shape[:-1], columns // elements * size)


def dequantize(raw: Bytes, name: str) -> Floats:
    """Decode bytes of shape (..., bytes per row) to float32 (..., columns) with the gguf package."""
    if name == "F32":
        return np.ascontiguousarray(raw).view(np.float32)
    if name == "F16":
        return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)
    return np.asarray(quants.dequantize(np.ascontiguousarray(raw), GGMLQuantizationType[name]), dtype=np.float32)

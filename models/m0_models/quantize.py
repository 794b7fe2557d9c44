"""Quantizers: float arrays to the block formats of GGUF, vectorised in NumPy.

The gguf package has Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, MXFP4 and BF16; the K-quants are written here from their block
layouts (ggml-common.h). They round plainly instead of searching for the best scale: the bytes differ from ggml's own
quantizer, the error is a little larger, and every reader of the format decodes them exactly as it decodes any file.
"""

from __future__ import annotations

from typing import Final

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, quants

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

TYPES: Final = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "MXFP4")


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
    encode = _K_QUANTS.get(name)
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


def _reciprocal(x: Floats) -> Floats:
    return np.divide(1.0, x, out=np.zeros_like(x), where=x != 0)


def _half(x: Floats) -> tuple[Bytes, Floats]:
    """The bytes of ``x`` as f16 (n, 2), and the value a reader will get back."""
    half = x.astype(np.float16)
    return half.reshape(-1, 1).view(np.uint8), half.astype(np.float32)


def _signed_extreme(x: Floats) -> Floats:
    """The element of largest magnitude along the last axis, with its sign."""
    at = np.abs(x).argmax(axis=-1)[..., None]
    extreme: Floats = np.take_along_axis(x, at, axis=-1)[..., 0]
    return extreme


def _pack_scales(sc: Bytes, m: Bytes) -> Bytes:
    """Eight 6-bit scales and eight 6-bit minima (n, 8) into 12 bytes (n, 12)."""
    low = (sc[:, :4] & 63) | ((sc[:, 4:] >> 4) << 6)
    mid = (m[:, :4] & 63) | ((m[:, 4:] >> 4) << 6)
    high = (sc[:, 4:] & 15) | ((m[:, 4:] & 15) << 4)
    return np.concatenate([low, mid, high], axis=1)


def _affine(x: Floats, levels: int) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Shared by Q4_K and Q5_K: d, dmin (n, 2 bytes each), packed scales (n, 12) and q (n, 8, 32) in 0..levels."""
    sub = x.reshape(-1, 8, 32)
    minimum = np.minimum(sub.min(axis=-1), 0)  # (n, 8): the format subtracts a minimum that is never negative
    scale = (np.maximum(sub.max(axis=-1), 0) - minimum) / levels
    d_bytes, d = _half(scale.max(axis=-1) / 63)
    dmin_bytes, dmin = _half((-minimum).max(axis=-1) / 63)
    sc = np.clip(np.rint(scale * _reciprocal(d)[:, None]), 0, 63)
    m = np.clip(np.rint(-minimum * _reciprocal(dmin)[:, None]), 0, 63)
    step = (d[:, None] * sc)[..., None]
    q = np.clip(np.rint((sub + (dmin[:, None] * m)[..., None]) * _reciprocal(step)), 0, levels).astype(np.uint8)
    return d_bytes, dmin_bytes, _pack_scales(sc.astype(np.uint8), m.astype(np.uint8)), q


def _nibbles(q: Bytes) -> Bytes:
    """Q (n, 8, 32) into (n, 128): of every 64 elements the first 32 are low nibbles, the next 32 high ones."""
    pairs = q.reshape(-1, 4, 2, 32) & 15
    return (pairs[:, :, 0] | (pairs[:, :, 1] << np.uint8(4))).astype(np.uint8).reshape(-1, 128)


def _q4_k(x: Floats) -> Bytes:
    """block_q4_K: f16 d, f16 dmin, 12 B scales, 128 B nibbles."""
    d, dmin, scales, q = _affine(x, 15)
    return np.concatenate([d, dmin, scales, _nibbles(q)], axis=1)


def _q5_k(x: Floats) -> Bytes:
    """block_q5_K: as Q4_K with 32 B of fifth bits before the nibbles; bit k of byte j is element 32 k + j."""
    d, dmin, scales, q = _affine(x, 31)
    qh = np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return np.concatenate([d, dmin, scales, qh, _nibbles(q)], axis=1)


def _q6_k(x: Floats) -> Bytes:
    """block_q6_K: 128 B low nibbles, 64 B upper bit pairs, 16 i8 scales, f16 d; value (d*sc)*(q-32)."""
    sub = x.reshape(-1, 16, 16)
    scale = _signed_extreme(sub) / np.float32(-32)  # (n, 16): the extreme maps to q = 0, as ggml does
    d_bytes, d = _half(_signed_extreme(scale) / np.float32(-128))
    sc = np.clip(np.rint(scale * _reciprocal(d)[:, None]), -128, 127)
    step = (d[:, None] * sc)[..., None]
    q = (np.clip(np.rint(sub * _reciprocal(step)), -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = q & 15, q >> 4
    ql = np.concatenate([low[:, :, 0] | (low[:, :, 2] << 4), low[:, :, 1] | (low[:, :, 3] << 4)], axis=-1)  # (n, 2, 64)
    qh = np.bitwise_or.reduce(high << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None], axis=2)  # (n, 2, 32)
    return np.concatenate([ql.reshape(-1, 128), qh.reshape(-1, 64), sc.astype(np.int8).view(np.uint8), d_bytes], axis=1)


_K_QUANTS: Final = {"Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k}

"""Dequantization, bit for bit as ggml's reference functions do it.

One function a type, from blocks as bytes (n, block_bytes) to weights (n, block_size) in float32. The order of the float
operations is part of the format: ``d * scale`` is rounded before it meets the weight. Layouts: ggml-common.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worker.gguf.types import GgmlType

if TYPE_CHECKING:
    from collections.abc import Callable

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# E2M1 values, doubled so that they are whole numbers; the shared exponent below is halved in turn.
_E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def dequantize(raw: Bytes, kind: GgmlType, shape: tuple[int, ...]) -> Floats:
    """Expand stored bytes to float32.

    Args:
        raw: the tensor's bytes, or those of some of its rows.
        kind: their storage type.
        shape: of the result; the last axis is a whole number of blocks.

    Returns:
        A new float32 array of ``shape`` (F32: a view on ``raw``).
    """
    blocks = raw.reshape(-1, kind.block_bytes)
    with np.errstate(all="ignore"):  # a damaged scale may be infinite; the logits will tell
        return _DEQUANTIZE[kind](blocks).reshape(shape)


def _f16(blocks: Bytes, at: int) -> Floats:
    """The half-precision number at byte ``at`` of each block, (n, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(pairs: Bytes) -> Bytes:
    """Low nibbles first, then high nibbles: (n, b) to (n, 2b)."""
    out = np.empty((len(pairs), 2, pairs.shape[1]), np.uint8)
    np.bitwise_and(pairs, 15, out=out[:, 0])
    np.right_shift(pairs, 4, out=out[:, 1])
    return out.reshape(len(pairs), -1)


def _high_bits(blocks: Bytes, at: int) -> Bytes:
    """The 32 bits at byte ``at`` of each block as 16s and 0s, (n, 32)."""
    bits = np.unpackbits(np.ascontiguousarray(blocks[:, at : at + 4]), axis=1, bitorder="little")
    bits <<= 4
    return bits


def _f32(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f4")


def _half(blocks: Bytes) -> Floats:
    return np.ascontiguousarray(blocks).view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    q = _nibbles(blocks[:, 2:]).view(np.int8)  # (n, 16) -> (n, 32)
    q -= 8
    return q * _f16(blocks, 0)


def _q4_1(blocks: Bytes) -> Floats:
    out = _nibbles(blocks[:, 4:]) * _f16(blocks, 0)  # (n, 16) -> (n, 32)
    out += _f16(blocks, 2)
    return out


def _q5_0(blocks: Bytes) -> Floats:
    q = _nibbles(blocks[:, 6:])  # (n, 16) -> (n, 32)
    q |= _high_bits(blocks, 2)
    q = q.view(np.int8)
    q -= 16
    return q * _f16(blocks, 0)


def _q5_1(blocks: Bytes) -> Floats:
    q = _nibbles(blocks[:, 8:])  # (n, 16) -> (n, 32)
    q |= _high_bits(blocks, 4)
    out = q * _f16(blocks, 0)
    out += _f16(blocks, 2)
    return out


def _q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8) * _f16(blocks, 0)  # (n, 32)


def _k_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and minima of Q4_K and Q5_K, each (n, 8, 1), from d, dmin and twelve bytes of packed 6-bit numbers."""
    s = blocks[:, 4:16]
    low, high, mixed = s[:, 0:4], s[:, 4:8], s[:, 8:12]
    scale = np.concatenate([low & 63, (mixed & 15) | ((low >> 6) << 4)], axis=1)  # (n, 4) -> (n, 8)
    minimum = np.concatenate([high & 63, (mixed >> 4) | ((high >> 6) << 4)], axis=1)  # (n, 4) -> (n, 8)
    return (scale * _f16(blocks, 0))[:, :, None], (minimum * _f16(blocks, 2))[:, :, None]


def _q4_k(blocks: Bytes) -> Floats:
    n = len(blocks)
    scale, minimum = _k_scales(blocks)
    q = _nibbles(blocks[:, 16:].reshape(n * 4, 32)).reshape(n, 8, 32)  # (4n, 32) -> (4n, 64) -> (n, 8, 32)
    out = q * scale
    out -= minimum
    return out.reshape(n, 256)


def _q5_k(blocks: Bytes) -> Floats:
    n = len(blocks)
    scale, minimum = _k_scales(blocks)
    q = _nibbles(blocks[:, 48:].reshape(n * 4, 32)).reshape(n, 8, 32)  # (4n, 32) -> (4n, 64) -> (n, 8, 32)
    # Bit i of the 32 high bytes belongs to sub-block i.
    bits = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1  # (n, 1, 32) -> (n, 8, 32)
    q |= bits << 4
    out = q * scale
    out -= minimum
    return out.reshape(n, 256)


def _q6_k(blocks: Bytes) -> Floats:
    n = len(blocks)
    scale = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8) * _f16(blocks, 208)  # (n, 16)
    low = blocks[:, :128].reshape(n, 2, 2, 32)  # per half of the block: 32 + 32 bytes
    high = blocks[:, 128:192].reshape(n, 2, 1, 32)
    q = np.empty((n, 2, 4, 32), np.uint8)
    q[:, :, :2] = low & 15
    q[:, :, 2:] = low >> 4
    q |= ((high >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3) << 4  # (n, 2, 1, 32) -> (n, 2, 4, 32)
    signed = q.view(np.int8)
    signed -= 32
    return (signed.reshape(n, 16, 16) * scale[:, :, None]).reshape(n, 256)


def _mxfp4(blocks: Bytes) -> Floats:
    e = blocks[:, :1].astype(np.uint32)  # (n, 1)
    # 2^(e-128) as bits: an exponent field of e - 1, subnormal below.
    d = np.where(e < 2, np.uint32(0x00200000) << e, (e - 1) << 23).astype(np.uint32).view(np.float32)
    return _E2M1[_nibbles(blocks[:, 1:])] * d  # (n, 16) -> (n, 32)


_DEQUANTIZE: dict[GgmlType, Callable[[Bytes], Floats]] = {
    GgmlType.F32: _f32,
    GgmlType.F16: _half,
    GgmlType.BF16: _bf16,
    GgmlType.Q4_0: _q4_0,
    GgmlType.Q4_1: _q4_1,
    GgmlType.Q5_0: _q5_0,
    GgmlType.Q5_1: _q5_1,
    GgmlType.Q8_0: _q8_0,
    GgmlType.Q4_K: _q4_k,
    GgmlType.Q5_K: _q5_k,
    GgmlType.Q6_K: _q6_k,
    GgmlType.MXFP4: _mxfp4,
}

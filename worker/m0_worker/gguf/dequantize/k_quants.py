"""Blocks of 256 weights whose sub-blocks have scales of their own: Q2_K to Q6_K."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_worker.gguf.dequantize.fields import fields, halves, nibbles, scaled
from m0_worker.gguf.types import GgmlType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m0_worker.gguf.dequantize.fields import Bytes, Floats


def _k_scales(d: Floats, dmin: Floats, packed: NDArray[Any]) -> tuple[Floats, Floats]:
    """Scales and minima of the eight sub-blocks, (n, 8), from twelve bytes of 6-bit numbers.

    Four bytes at a time: scales 0-3, minima 0-3, then the low nibbles of scales and minima 4-7, whose upper two bits
    are the upper two of the first eight bytes.
    """
    low, high, mixed = packed.view("<u4").reshape(-1, 3).T
    words = np.empty((4, len(d)), "<u4")
    words[0] = low & 0x3F3F3F3F
    words[1] = (mixed & 0x0F0F0F0F) | (low >> 2) & 0x30303030
    words[2] = high & 0x3F3F3F3F
    words[3] = (mixed >> 4) & 0x0F0F0F0F | (high >> 2) & 0x30303030
    scale, minimum = words.reshape(2, 2, -1).transpose(0, 2, 1).copy().view(np.uint8)  # -> (n, 8), (n, 8)
    return scale * d[:, None], minimum * dmin[:, None]


def _bit_pairs(qs: NDArray[Any]) -> Bytes:
    """Two bits a weight, flat: bit pair j of each half's 32 bytes belongs to its weights 32 j to 32 j + 31."""
    packed = qs.view(np.uint8)
    out = np.empty((packed.size // 32, 4), "V32")
    for j in range(4):
        out[:, j] = (packed >> 2 * j & 3).view("V32")
    return out.reshape(-1).view(np.uint8)


def _single_bits(mask: NDArray[Any], place: int) -> Bytes:
    """One bit a weight at `place`, flat: bit i of a block's 32 bytes belongs to its weights 32 i to 32 i + 31."""
    packed = mask.view(np.uint8)
    out = np.empty((packed.size // 32, 8), "V32")
    for i in range(8):
        out[:, i] = ((packed >> i & 1) << place).view("V32")
    return out.reshape(-1).view(np.uint8)


def _q2_k(raw: Bytes) -> Floats:
    scales, qs, d, dmin = fields(raw, ("scales", "V16"), ("qs", "V64"), ("d", "<u2"), ("dmin", "<u2"))
    packed = scales.view(np.uint8).reshape(-1, 16)  # low nibble the scale, high nibble the minimum of 16 weights
    out = scaled(_bit_pairs(qs), (packed & 15) * halves(d)[:, None], 16)
    out -= ((packed >> 4) * halves(dmin)[:, None]).reshape(-1, 1)
    return out


def _q3_k(raw: Bytes) -> Floats:
    hmask, qs, packed, d = fields(raw, ("hmask", "V32"), ("qs", "V64"), ("scales", "V12"), ("d", "<u2"))
    q = _bit_pairs(qs)
    q |= _single_bits(hmask, 2)
    signed = q.view(np.int8)
    signed -= 4
    return scaled(signed, _sixteen_scales(packed) * halves(d)[:, None], 16)


def _sixteen_scales(packed: NDArray[Any]) -> NDArray[np.int8]:
    """Sixteen scales, (n, 16), from twelve bytes of 6-bit numbers less 32.

    Four bytes at a time: the low nibbles of scales 0-3, 4-7, the high ones of 8-11, 12-15, and their upper two bits.
    """
    first, second, upper = packed.view("<u4").reshape(-1, 3).T
    words = np.empty((len(first), 4), "<u4")
    words[:, 0] = first & 0x0F0F0F0F | (upper << 4) & 0x30303030
    words[:, 1] = second & 0x0F0F0F0F | (upper << 2) & 0x30303030
    words[:, 2] = (first >> 4) & 0x0F0F0F0F | upper & 0x30303030
    words[:, 3] = (second >> 4) & 0x0F0F0F0F | (upper >> 2) & 0x30303030
    scales = words.view(np.int8)
    scales -= 32
    return scales


def _q4_k(raw: Bytes) -> Floats:
    d, dmin, packed, qs = fields(raw, ("d", "<u2"), ("dmin", "<u2"), ("scales", "V12"), ("qs", "V128"))
    scale, minimum = _k_scales(halves(d), halves(dmin), packed)
    out = scaled(nibbles(qs, 32), scale, 32)
    out -= minimum.reshape(-1, 1)
    return out


def _q5_k(raw: Bytes) -> Floats:
    d, dmin, packed, qh, qs = fields(
        raw, ("d", "<u2"), ("dmin", "<u2"), ("scales", "V12"), ("qh", "V32"), ("qs", "V128")
    )
    scale, minimum = _k_scales(halves(d), halves(dmin), packed)
    q = nibbles(qs, 32)
    q |= _single_bits(qh, 4)
    out = scaled(q, scale, 32)
    out -= minimum.reshape(-1, 1)
    return out


def _q6_k(raw: Bytes) -> Floats:
    ql, qh, scales, d = fields(raw, ("ql", "V128"), ("qh", "V64"), ("scales", "V16"), ("d", "<u2"))
    scale = scales.view(np.int8).reshape(-1, 16) * halves(d)[:, None]  # (n, 16)
    q = nibbles(ql, 64)  # each half of a block: 64 low nibbles, then 64 high ones
    upper = _bit_pairs(qh)
    upper <<= 4
    q |= upper
    signed = q.view(np.int8)
    signed -= 32
    return scaled(signed, scale, 16)


DECODERS: Final = {
    GgmlType.Q2_K: _q2_k,
    GgmlType.Q3_K: _q3_k,
    GgmlType.Q4_K: _q4_k,
    GgmlType.Q5_K: _q5_k,
    GgmlType.Q6_K: _q6_k,
}

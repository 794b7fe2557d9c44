"""Encoders of the block formats that the gguf package cannot write: Q2_K to Q6_K, IQ4_NL, IQ4_XS.

Written from the layouts in ggml-common.h. They round plainly instead of searching for the best scale: the bytes differ
from ggml's own quantizer, the error is a little larger, and every reader of the format decodes them exactly as it
decodes any file.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


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


def _bit_pairs(q: Bytes) -> Bytes:
    """Q (n, 256) in 0..3 into (n, 64): of each half, byte j holds weights j, 32 + j, 64 + j and 96 + j."""
    four = q.reshape(-1, 2, 4, 32) << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    packed: Bytes = np.bitwise_or.reduce(four, axis=2).reshape(-1, 64)
    return packed


def _q2_k(x: Floats) -> Bytes:
    """block_q2_K: 16 B of scales and minima, 64 B bit pairs, f16 d, f16 dmin; value (d*sc)*q - dmin*m."""
    sub = x.reshape(-1, 16, 16)
    minimum = np.minimum(sub.min(axis=-1), 0)
    scale = (np.maximum(sub.max(axis=-1), 0) - minimum) / 3
    d_bytes, d = _half(scale.max(axis=-1) / 15)
    dmin_bytes, dmin = _half((-minimum).max(axis=-1) / 15)
    sc = np.clip(np.rint(scale * _reciprocal(d)[:, None]), 0, 15)
    m = np.clip(np.rint(-minimum * _reciprocal(dmin)[:, None]), 0, 15)
    step = (d[:, None] * sc)[..., None]
    q = np.clip(np.rint((sub + (dmin[:, None] * m)[..., None]) * _reciprocal(step)), 0, 3).astype(np.uint8)
    scales = sc.astype(np.uint8) | (m.astype(np.uint8) << 4)
    return np.concatenate([scales, _bit_pairs(q), d_bytes, dmin_bytes], axis=1)


def _q3_k(x: Floats) -> Bytes:
    """block_q3_K: 32 B high bits, 64 B bit pairs, 12 B scales, f16 d; value (d*(sc-32))*(q-4)."""
    sub = x.reshape(-1, 16, 16)
    extreme = _signed_extreme(sub)
    # The extreme maps to q = -4, which cuts off its counterpart, or to -3, which leaves -4 unused: the better of both.
    choices = np.stack([extreme / np.float32(-4), extreme / np.float32(-3)])  # (2, n, 16)
    inverse = _reciprocal(choices)[..., None]
    rounded = np.clip(np.rint(sub * inverse), -4, 3) * choices[..., None]
    second = np.square(rounded[1] - sub).sum(axis=-1) < np.square(rounded[0] - sub).sum(axis=-1)
    scale = np.where(second, choices[1], choices[0])
    d_bytes, d = _half(_signed_extreme(scale) / np.float32(-32))
    sc = np.clip(np.rint(scale * _reciprocal(d)[:, None]), -32, 31)
    step = (d[:, None] * sc)[..., None]
    q = (np.clip(np.rint(sub * _reciprocal(step)), -4, 3) + 4).astype(np.uint8).reshape(-1, 8, 32)
    hmask = np.bitwise_or.reduce((q >> 2) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    s = (sc + 32).astype(
        np.uint8
    )  # byte i < 8: low nibbles of scales i and i + 8; byte 8 + i: upper bits of i, i + 4, ..
    low = (s[:, :8] & 15) | ((s[:, 8:] & 15) << 4)
    upper = np.bitwise_or.reduce((s.reshape(-1, 4, 4) >> 4) << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None], axis=1)
    return np.concatenate([hmask, _bit_pairs(q.reshape(-1, 256) & 3), low, upper, d_bytes], axis=1)


_IQ4: Final = np.array((-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), dtype=np.float32)


def _nearest(x: Floats) -> Bytes:
    """Indices of the nearest values of IQ4's table: (n, ..., 32) -> (n, ..., 16) bytes, nibble pairs (j, j + 16)."""
    q = np.searchsorted((_IQ4[1:] + _IQ4[:-1]) / 2, x).astype(np.uint8)
    return q[..., :16] | (q[..., 16:] << np.uint8(4))


def _iq4_nl(x: Floats) -> Bytes:
    """block_iq4_nl: f16 d, 16 B nibbles; value d*table[q]."""
    d_bytes, d = _half(_signed_extreme(x) / np.float32(-127))
    return np.concatenate([d_bytes, _nearest(x * _reciprocal(d)[:, None])], axis=1)


def _iq4_xs(x: Floats) -> Bytes:
    """block_iq4_xs: f16 d, u16 upper scale bits, 4 B scale nibbles, 128 B nibbles; value (d*(sc-32))*table[q]."""
    sub = x.reshape(-1, 8, 32)
    scale = _signed_extreme(sub) / np.float32(-127)
    d_bytes, d = _half(_signed_extreme(scale) / np.float32(-32))
    sc = np.clip(np.rint(scale * _reciprocal(d)[:, None]), -32, 31)
    step = (d[:, None] * sc)[..., None]
    s = (sc + 32).astype(np.uint8)
    upper = np.bitwise_or.reduce((s.astype("<u2") >> 4) << np.arange(0, 16, 2, dtype="<u2"), axis=1)
    low = (s[:, ::2] & 15) | ((s[:, 1::2] & 15) << 4)
    nibbles = _nearest(sub * _reciprocal(step)).reshape(-1, 128)
    return np.concatenate([d_bytes, upper.reshape(-1, 1).view(np.uint8), low, nibbles], axis=1)


ENCODERS: Final = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
"""From (n, block) floats to (n, bytes of a block), by type."""

"""Four bits that stand for values of a table: IQ4_NL, IQ4_XS, MXFP4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_worker.gguf.dequantize.fields import fields, halves, nibbles, scaled
from m0_worker.gguf.types import GgmlType

if TYPE_CHECKING:
    from m0_worker.gguf.dequantize.fields import Bytes, Floats

_IQ4: Final = np.array((-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), np.int8)


def _iq4_nl(raw: Bytes) -> Floats:
    d, qs = fields(raw, ("d", "<u2"), ("qs", "V16"))
    return scaled(_IQ4[nibbles(qs, 16)], halves(d), 32)


def _iq4_xs(raw: Bytes) -> Floats:
    d, high, low, qs = fields(raw, ("d", "<u2"), ("high", "<u2"), ("low", "V4"), ("qs", "V128"))
    scale = nibbles(low, 1).reshape(-1, 8)  # of 32 weights each: nibbles, and two bits more in `high`; less 32
    scale |= ((high[:, None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3) << 4).astype(np.uint8)
    signed = scale.view(np.int8)
    signed -= 32
    return scaled(_IQ4[nibbles(qs, 16)], signed * halves(d)[:, None], 32)


def _mxfp4(raw: Bytes) -> Floats:
    e, qs = fields(raw, ("e", "u1"), ("qs", "V16"))
    code = nibbles(qs, 16)
    # E2M1 doubled, so whole: 0 1 2 3 4 6 8 12 for the lower three bits; the scale below is halved in turn.
    magnitude = code & 7
    steps = (magnitude > 4).view(np.uint8) + (magnitude > 5).view(np.uint8) + 3 * (magnitude > 6).view(np.uint8)
    magnitude += steps
    minus = -(code >> 3).view(np.int8)  # 0 or -1: all bits
    value = magnitude.view(np.int8)
    value ^= minus
    value -= minus
    # 2^(e-128) by its bits: an exponent field of e - 1, subnormal below.
    wide = e.astype(np.uint32)
    d = np.where(wide < 2, np.uint32(0x00200000) << wide, (wide - 1) << 23).astype(np.uint32).view(np.float32)
    return scaled(value, d, 32)


DECODERS: Final = {GgmlType.IQ4_NL: _iq4_nl, GgmlType.IQ4_XS: _iq4_xs, GgmlType.MXFP4: _mxfp4}

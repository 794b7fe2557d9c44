"""Floats, and blocks of 32 weights with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_worker.gguf.dequantize.fields import fields, fifth_bits, halves, nibbles, scaled
from m0_worker.gguf.types import GgmlType

if TYPE_CHECKING:
    from m0_worker.gguf.dequantize.fields import Bytes, Floats


def _f32(raw: Bytes) -> Floats:
    return raw.view("<f4")


def _f16(raw: Bytes) -> Floats:
    return halves(raw.view("<u2"))


def _bf16(raw: Bytes) -> Floats:
    out = np.zeros((raw.size // 2, 2), "<u2")
    out[:, 1] = raw.view("<u2")  # the upper half of a float32
    return out.reshape(-1).view(np.float32)


def _q4_0(raw: Bytes) -> Floats:
    d, qs = fields(raw, ("d", "<u2"), ("qs", "V16"))
    q = nibbles(qs, 16).view(np.int8)
    q -= 8
    return scaled(q, halves(d), 32)


def _q4_1(raw: Bytes) -> Floats:
    d, m, qs = fields(raw, ("d", "<u2"), ("m", "<u2"), ("qs", "V16"))
    out = scaled(nibbles(qs, 16), halves(d), 32)
    out += halves(m)[:, None]
    return out


def _q5_0(raw: Bytes) -> Floats:
    d, qh, qs = fields(raw, ("d", "<u2"), ("qh", "V4"), ("qs", "V16"))
    q = nibbles(qs, 16)
    q |= fifth_bits(qh)
    signed = q.view(np.int8)
    signed -= 16
    return scaled(signed, halves(d), 32)


def _q5_1(raw: Bytes) -> Floats:
    d, m, qh, qs = fields(raw, ("d", "<u2"), ("m", "<u2"), ("qh", "V4"), ("qs", "V16"))
    q = nibbles(qs, 16)
    q |= fifth_bits(qh)
    out = scaled(q, halves(d), 32)
    out += halves(m)[:, None]
    return out


def _q8_0(raw: Bytes) -> Floats:
    d, qs = fields(raw, ("d", "<u2"), ("qs", "V32"))
    return scaled(qs.view(np.int8), halves(d), 32)


DECODERS: Final = {
    GgmlType.F32: _f32,
    GgmlType.F16: _f16,
    GgmlType.BF16: _bf16,
    GgmlType.Q4_0: _q4_0,
    GgmlType.Q4_1: _q4_1,
    GgmlType.Q5_0: _q5_0,
    GgmlType.Q5_1: _q5_1,
    GgmlType.Q8_0: _q8_0,
}

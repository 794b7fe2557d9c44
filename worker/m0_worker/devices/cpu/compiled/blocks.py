"""Stored blocks in compiled kernels: for each storage type, how 32 neighbouring weights become floats.

`unpack(block, group)` gives weights 32 group to 32 group + 31 of the block at an address, with the same bits that
:func:`m0_worker.gguf.dequantize` gives. Products and tiles in float32 are made of it, so a type needs nothing else.
Layouts: ggml-common.h; `d * scale` has few enough bits to be exact, so the order of the products is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba.extending import register_jitable

from m0_worker.devices.cpu.compiled.vectors import (
    as_float,
    field,
    fma,
    half,
    i8,
    load_bfloats,
    load_bytes,
    load_floats,
    load_halves,
    minus,
    nibbles,
    signed,
    spread,
    spread_half,
    spread_two,
    table,
    times,
    u8,
    unsigned,
    where_bit,
    with_high,
)
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How a storage type is read.

    Attributes:
        unpack: (address of a block, group of 32 weights in it) to their floats; compiled.
        groups: groups of 32 weights in a block.
        nbytes: bytes of a block.
    """

    unpack: Callable[..., Any]
    groups: int
    nbytes: int


UNPACKINGS: dict[GgmlType, Unpacking] = {}


def unpacks(kind: GgmlType) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the unpacking of a storage type. Types without blocks count 32 weights as one."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = register_jitable(forceinline=True)(function)
        weights = max(kind.block_size, 32)
        UNPACKINGS[kind] = Unpacking(compiled, weights // 32, kind.nbytes(weights))
        return compiled

    return enter


@unpacks(GgmlType.F32)
def f32(block: int, _group: int) -> Any:
    """32 float32 numbers."""
    return load_floats(block)


@unpacks(GgmlType.F16)
def f16(block: int, _group: int) -> Any:
    """32 FP16 numbers."""
    return load_halves(block)


@unpacks(GgmlType.BF16)
def bf16(block: int, _group: int) -> Any:
    """32 BF16 numbers."""
    return load_bfloats(block)


@unpacks(GgmlType.Q4_0)
def q4_0(block: int, _group: int) -> Any:
    """F16 d, 16 nibble pairs: d (q - 8)."""
    return times(signed(minus(nibbles(block + 2), 8)), spread_half(block))


@unpacks(GgmlType.Q4_1)
def q4_1(block: int, _group: int) -> Any:
    """F16 d, f16 m, 16 nibble pairs: d q + m."""
    return fma(unsigned(nibbles(block + 4)), spread_half(block), spread_half(block + 2))


@unpacks(GgmlType.Q5_0)
def q5_0(block: int, _group: int) -> Any:
    """F16 d, u32 high bits, 16 nibble pairs: d (q - 16), and q - 16 is the nibble where its high bit is set."""
    q = nibbles(block + 6)
    return times(signed(where_bit(block + 2, q, minus(q, 16))), spread_half(block))


@unpacks(GgmlType.Q5_1)
def q5_1(block: int, _group: int) -> Any:
    """F16 d, f16 m, u32 high bits, 16 nibble pairs: d q + m."""
    q = nibbles(block + 8)
    return fma(unsigned(where_bit(block + 4, minus(q, -16), q)), spread_half(block), spread_half(block + 2))


@unpacks(GgmlType.Q8_0)
def q8_0(block: int, _group: int) -> Any:
    """F16 d, 32 i8: d q."""
    return times(signed(load_bytes(block + 2)), spread_half(block))


@register_jitable(forceinline=True)
def bit_pairs(quads: int, group: int) -> Any:
    """Bit pairs of K-quants: 32 bytes hold four groups, the first in their lowest bits."""
    return field(load_bytes(quads + 32 * (group >> 2)), 2 * (group & 3), 3)


@unpacks(GgmlType.Q2_K)
def q2_k(block: int, group: int) -> Any:
    """16 scales (low nibble) and minima (high), 64 B bit pairs, f16 d, f16 dmin: two scales and minima a group."""
    d, m = half(block + 80), half(block + 82)
    first, second = u8(block + 2 * group), u8(block + 2 * group + 1)
    scales = spread_two(d * np.float32(first & 15), d * np.float32(second & 15))
    minima = spread_two(-m * np.float32(first >> 4), -m * np.float32(second >> 4))
    return fma(unsigned(bit_pairs(block + 16, group)), scales, minima)


@register_jitable(forceinline=True)
def sixteenth_scale(packed: int, i: int) -> Any:
    """One of sixteen 6-bit scales less 32 in twelve bytes: eight of nibbles, then four of upper bit pairs."""
    low = u8(packed + (i & 7)) >> 4 * (i >> 3) & 15
    return (low | (u8(packed + 8 + (i & 3)) >> 2 * (i >> 2) & 3) << 4) - 32


@unpacks(GgmlType.Q3_K)
def q3_k(block: int, group: int) -> Any:
    """32 B high bits, 64 B bit pairs, 12 B of 6-bit scales, f16 d: d scale (q - 4), two scales a group."""
    q = with_high(bit_pairs(block + 32, group), field(load_bytes(block), group, 1), 2)
    d, packed = half(block + 108), block + 96
    first, second = sixteenth_scale(packed, 2 * group), sixteenth_scale(packed, 2 * group + 1)
    return times(signed(minus(q, 4)), spread_two(d * np.float32(first), d * np.float32(second)))


@register_jitable(forceinline=True)
def k_scale(packed: int, group: int) -> Any:
    """Scale and minimum of a sub-block from twelve bytes of 6-bit numbers; the upper four have their top bits apart."""
    if group < 4:
        return u8(packed + group) & 63, u8(packed + group + 4) & 63
    mixed = u8(packed + group + 4)
    return (
        (mixed & 15) | (u8(packed + group - 4) >> 6) << 4,
        (mixed >> 4) | (u8(packed + group) >> 6) << 4,
    )


@register_jitable(forceinline=True)
def k_scaled(q: Any, block: int, group: int) -> Any:
    """D scale q - dmin minimum, for Q4_K and Q5_K: f16 d, f16 dmin, 12 bytes of scales and minima."""
    scale, minimum = k_scale(block + 4, group)
    d, m = half(block) * np.float32(scale), half(block + 2) * np.float32(minimum)
    return fma(unsigned(q), spread(d), spread(-m))


@unpacks(GgmlType.Q4_K)
def q4_k(block: int, group: int) -> Any:
    """Scales, then 128 nibble pairs: each 32 of them hold one sub-block low and the next one high."""
    q = field(load_bytes(block + 16 + 32 * (group >> 1)), 4 * (group & 1), 15)
    return k_scaled(q, block, group)


@unpacks(GgmlType.Q5_K)
def q5_k(block: int, group: int) -> Any:
    """As Q4_K, with 32 bytes before the nibbles whose bit i belongs to sub-block i."""
    q = field(load_bytes(block + 48 + 32 * (group >> 1)), 4 * (group & 1), 15)
    return k_scaled(with_high(q, field(load_bytes(block + 16), group, 1), 4), block, group)


@unpacks(GgmlType.Q6_K)
def q6_k(block: int, group: int) -> Any:
    """128 B low nibbles, 64 B high bit pairs, 16 i8 scales, f16 d: d scale (q - 32), two scales a group."""
    part, i = group >> 2, group & 3
    q = field(load_bytes(block + 64 * part + 32 * (i & 1)), 4 * (i >> 1), 15)
    q = minus(with_high(q, bit_pairs(block + 128, group), 4), 32)
    d, scales = half(block + 208), block + 192 + 2 * group
    return times(signed(q), spread_two(d * np.float32(i8(scales)), d * np.float32(i8(scales + 1))))


iq4 = table(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@unpacks(GgmlType.IQ4_NL)
def iq4_nl(block: int, _group: int) -> Any:
    """F16 d, 16 nibble pairs: d times the table's value."""
    return times(signed(iq4(nibbles(block + 2))), spread_half(block))


@unpacks(GgmlType.IQ4_XS)
def iq4_xs(block: int, group: int) -> Any:
    """F16 d, u16 of the scales' upper bit pairs, 4 B of their nibbles, 128 nibble pairs: d (scale - 32) value."""
    upper = (u8(block + 2 + (group >> 2)) >> 2 * (group & 3)) & 3
    scale = ((u8(block + 4 + (group >> 1)) >> 4 * (group & 1)) & 15 | upper << 4) - 32
    return times(signed(iq4(nibbles(block + 8 + 16 * group))), spread(half(block) * np.float32(scale)))


e2m1 = table(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # doubled, so whole


@unpacks(GgmlType.MXFP4)
def mxfp4(block: int, _group: int) -> Any:
    """U8 exponent e (E8M0), 16 nibble pairs (E2M1): 2^(e - 128) times the doubled number of the code."""
    e = u8(block)
    bits = 0x00200000 << e if e < 2 else (e - 1) << 23  # of 2^(e - 128), subnormal below
    return times(signed(e2m1(nibbles(block + 1))), spread(as_float(bits)))

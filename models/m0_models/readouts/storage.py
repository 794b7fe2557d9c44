"""Ways to decode stored blocks incorrectly: each storage type taken apart into its fields, put together wrongly.

A block's values are scale * number - minimum, spelt out in `parts` and put together in `values`; a mistake changes the
parts. Layouts: the GGUF format's block types (ggml-common.h); MXFP4: OCP Microscaling Formats 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from m0_models.quantize import block_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_models.quantize import Bytes
    from m0_models.readouts.arithmetic import Array

Integers = npt.NDArray[np.int64]
TYPES: Final = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "MXFP4")
_E2M1: Final = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@dataclass(frozen=True, slots=True)
class Parts:
    """n blocks of one type, taken apart; S sub-blocks of a block, each with a scale, of M elements."""

    scale: Array
    """(n, 1): the block's scale."""
    steps: Array
    """(n, S): factor of each sub-block on the scale; ones where the type has none."""
    minimum: Array
    """(n, 1): factor on `minima`; minus the block's minimum where the type adds one."""
    minima: Array
    """(n, S): what is subtracted from each sub-block, in units of `minimum`."""
    low: Integers
    """(n, elements): the low four bits (all eight of Q8_0)."""
    high: Integers
    """(n, elements): the bits above, shifted into place."""
    zero: float = 0.0
    """The number that means nothing."""
    codes: Array | None = None
    """MXFP4: the value of each number."""


def parts(raw: Bytes, kind: str) -> Parts:
    """Take blocks apart: raw (..., bytes a row) of storage type ``kind``.

    Raises:
        ValueError: a type whose blocks are not spelt out here.
    """
    if kind not in TYPES:
        raise ValueError(f"storage type {kind!r} is not spelt out: one of {', '.join(TYPES)}")
    blocks = np.ascontiguousarray(raw).reshape(-1, block_size(kind)[1])
    return _plain(blocks, kind) if "_K" not in kind else (_q6_k(blocks) if kind == "Q6_K" else _affine_k(blocks, kind))


def values(p: Parts) -> Array:
    """(n, elements): what the blocks hold."""
    number = p.low + p.high
    plain = p.codes[number] if p.codes is not None else number - p.zero
    inner = plain.reshape(len(plain), p.steps.shape[1], -1)
    whole: Array = (p.scale * p.steps)[..., None] * inner - (p.minimum * p.minima)[..., None]
    return whole.reshape(plain.shape)


def _half(pair: Bytes) -> Array:
    return np.ascontiguousarray(pair).view(np.float16).astype(np.float64)


def _halves(qs: Bytes) -> Integers:
    """Low nibbles first, then high ones."""
    return np.concatenate([qs & 15, qs >> 4], axis=-1).astype(np.int64)


def _plain(blocks: Bytes, kind: str) -> Parts:
    n = len(blocks)
    ones, none = np.ones((n, 1)), np.zeros((n, 1))
    if kind == "MXFP4":
        low = _halves(blocks[:, 1:])
        return Parts(
            2.0 ** (blocks[:, :1].astype(np.float64) - 127), ones, none, ones, low, np.zeros_like(low), codes=_E2M1
        )
    scale, rest = _half(blocks[:, :2]), blocks[:, 2:]
    if kind == "Q8_0":
        low = rest.view(np.int8).astype(np.int64)
        return Parts(scale, ones, none, ones, low, np.zeros_like(low))
    if kind.endswith("_1"):
        none, rest = -_half(rest[:, :2]), rest[:, 2:]
    high = np.zeros((n, 32), dtype=np.int64)
    if kind.startswith("Q5"):
        bits, rest = np.ascontiguousarray(rest[:, :4]).view("<u4").astype(np.int64), rest[:, 4:]
        high = ((bits >> np.arange(32)) & 1) << 4
    zero = {"Q4_0": 8.0, "Q5_0": 16.0}.get(kind, 0.0)
    return Parts(scale, ones, none, ones, _halves(rest), high, zero)


def _affine_k(blocks: Bytes, kind: str) -> Parts:
    scale, minimum, packed, rest = _half(blocks[:, :2]), _half(blocks[:, 2:4]), blocks[:, 4:16], blocks[:, 16:]
    steps, minima = unpacked(packed)
    high = np.zeros((len(blocks), 256), dtype=np.int64)
    if kind == "Q5_K":
        bits, rest = rest[:, :32], rest[:, 32:]
        high = (((bits[:, None, :] >> np.arange(8)[:, None]) & 1).astype(np.int64) << 4).reshape(-1, 256)
    pairs = rest.reshape(-1, 4, 32)
    low = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(-1, 256).astype(np.int64)
    return Parts(scale, steps, minimum, minima, low, high)


def unpacked(packed: Bytes) -> tuple[Array, Array]:
    """The eight six-bit scales and minima (n, 8) of twelve bytes (n, 12)."""
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    steps = np.concatenate([first & 63, (last & 15) | ((first >> 6) << 4)], axis=1)
    minima = np.concatenate([second & 63, (last >> 4) | ((second >> 6) << 4)], axis=1)
    return steps.astype(np.float64), minima.astype(np.float64)


def _q6_k(blocks: Bytes) -> Parts:
    ql, qh = blocks[:, :128].reshape(-1, 2, 2, 32), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    steps, scale = blocks[:, 192:208].view(np.int8).astype(np.float64), _half(blocks[:, 208:])
    low = np.concatenate([ql & 15, ql >> 4], axis=2).reshape(-1, 256).astype(np.int64)
    high = (((qh >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]) & 3).astype(np.int64) << 4).reshape(-1, 256)
    return Parts(scale, steps, np.zeros_like(scale), np.zeros_like(steps), low, high, zero=32.0)


@dataclass(frozen=True, slots=True)
class Misreading:
    """One way to read blocks wrongly."""

    name: str
    about: str
    kinds: tuple[str, ...]
    change: Callable[[Parts], Parts]


def _reordered(order: npt.NDArray[np.intp]) -> Callable[[Parts], Parts]:
    """Elements in another order within each run of ``len(order)``."""

    def change(p: Parts) -> Parts:
        low, high = (x.reshape(-1, len(order))[:, order].reshape(x.shape) for x in (p.low, p.high))
        return replace(p, low=low, high=high)

    return change


def _low_only(order: npt.NDArray[np.intp]) -> Callable[[Parts], Parts]:
    return lambda p: replace(p, low=p.low.reshape(-1, len(order))[:, order].reshape(p.low.shape))


def _four_bits(six: Array) -> Array:
    """(n, 8) six-bit numbers, the last four without their upper two bits."""
    return np.where(np.arange(six.shape[1]) < 4, six, six % 16)


_EXCHANGED_32: Final = np.r_[16:32, 0:16]
_INTERLEAVED_32: Final = np.arange(32).reshape(2, 16).T.reshape(-1)
_EXCHANGED_64: Final = np.r_[32:64, 0:32]
_INTERLEAVED_64: Final = np.arange(64).reshape(2, 32).T.reshape(-1)
_FOURS: Final = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4")
_AFFINE: Final = ("Q4_K", "Q5_K")

MISREADINGS: Final = (
    Misreading("nibbles-exchanged", "takes high nibbles for low ones", _FOURS, _low_only(_EXCHANGED_32)),
    Misreading("nibbles-exchanged", "takes high nibbles for low ones", _AFFINE, _low_only(_EXCHANGED_64)),
    Misreading(
        "nibbles-interleaved", "takes the two nibbles of a byte for neighbours", _FOURS, _low_only(_INTERLEAVED_32)
    ),
    Misreading(
        "nibbles-interleaved", "takes the two nibbles of a byte for neighbours", _AFFINE, _low_only(_INTERLEAVED_64)
    ),
    Misreading(
        "zero-missing",
        "does not subtract the number that means zero",
        ("Q4_0", "Q5_0", "Q6_K"),
        lambda p: replace(p, zero=0.0),
    ),
    Misreading(
        "zero-one-lower",
        "subtracts one less than the number that means zero",
        ("Q4_0", "Q5_0", "Q6_K"),
        lambda p: replace(p, zero=p.zero - 1),
    ),
    Misreading(
        "scale-magnitude",
        "drops the sign of the scale",
        ("Q4_0", "Q5_0", "Q6_K"),
        lambda p: replace(p, scale=np.abs(p.scale)),
    ),
    Misreading(
        "high-bits-missing",
        "drops the bits above the nibbles",
        ("Q5_0", "Q5_1", "Q5_K", "Q6_K"),
        lambda p: replace(p, high=np.zeros_like(p.high)),
    ),
    Misreading(
        "high-bits-exchanged",
        "gives one half of a block the other half's fifth bits",
        ("Q5_0", "Q5_1"),
        lambda p: replace(p, high=p.high[:, _EXCHANGED_32]),
    ),
    Misreading(
        "minimum-missing",
        "drops the minimum",
        ("Q4_1", "Q5_1", *_AFFINE),
        lambda p: replace(p, minimum=np.zeros_like(p.minimum)),
    ),
    Misreading(
        "minimum-sign",
        "gives the minimum the wrong sign",
        ("Q4_1", "Q5_1", *_AFFINE),
        lambda p: replace(p, minimum=-p.minimum),
    ),
    Misreading(
        "bytes-unsigned", "reads signed bytes as unsigned ones", ("Q8_0",), lambda p: replace(p, low=p.low & 255)
    ),
    Misreading(
        "scales-unsigned",
        "reads signed sub-block scales as unsigned ones",
        ("Q6_K",),
        lambda p: replace(p, steps=np.where(p.steps < 0, p.steps + 256, p.steps)),
    ),
    Misreading(
        "sub-scales-missing",
        "drops the scales of sub-blocks",
        (*_AFFINE, "Q6_K"),
        lambda p: replace(p, steps=np.ones_like(p.steps)),
    ),
    Misreading(
        "sub-scales-first",
        "gives every sub-block the first one's scale",
        (*_AFFINE, "Q6_K"),
        lambda p: replace(p, steps=np.repeat(p.steps[:, :1], p.steps.shape[1], axis=1)),
    ),
    Misreading(
        "late-sub-scales-four-bits",
        "drops the upper two bits of the last four scales and minima",
        _AFFINE,
        lambda p: replace(p, steps=_four_bits(p.steps), minima=_four_bits(p.minima)),
    ),
    Misreading(
        "exponent-one-higher", "takes block exponents one too high", ("MXFP4",), lambda p: replace(p, scale=p.scale * 2)
    ),
    Misreading(
        "codes-linear",
        "takes the four bits for an integer from -8 to 7",
        ("MXFP4",),
        lambda p: replace(p, codes=(np.arange(16.0) + 8) % 16 - 8),
    ),
    Misreading(
        "codes-unsigned", "drops the sign of the four bits", ("MXFP4",), lambda p: replace(p, codes=np.abs(_E2M1))
    ),
    Misreading(
        "codes-without-subnormal",
        "reads the smallest code as 0.75, as if it had a leading one",
        ("MXFP4",),
        lambda p: replace(p, codes=np.where(np.abs(_E2M1) == 0.5, np.sign(_E2M1) * 0.75, _E2M1)),
    ),
    Misreading(
        "codes-rounded",
        "reads the codes 1.5 and 0.5 as integers",
        ("MXFP4",),
        lambda p: replace(p, codes=np.trunc(_E2M1)),
    ),
)


def of(kind: str) -> dict[str, Misreading]:
    """The ways to decode blocks of ``kind`` incorrectly, by name."""
    return {misreading.name: misreading for misreading in MISREADINGS if kind in misreading.kinds}

"""T1: the worker's dequantization against ggml's own, bit for bit, over random blocks and the corners of each field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from m0_worker.gguf import GgmlType, dequantize

from m0_parity.llamacpp.blocks import dequantize_row
from m0_parity.rungs.base import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

_HALVES: Final[dict[GgmlType, tuple[int, ...]]] = {  # byte offsets of the f16 fields of a block
    GgmlType.F32: (),
    GgmlType.F16: (0,),
    GgmlType.BF16: (),
    GgmlType.Q4_0: (0,),
    GgmlType.Q4_1: (0, 2),
    GgmlType.Q5_0: (0,),
    GgmlType.Q5_1: (0, 2),
    GgmlType.Q8_0: (0,),
    GgmlType.Q2_K: (80, 82),
    GgmlType.Q3_K: (108,),
    GgmlType.Q4_K: (0, 2),
    GgmlType.Q5_K: (0, 2),
    GgmlType.Q6_K: (208,),
    GgmlType.IQ4_NL: (0,),
    GgmlType.IQ4_XS: (0,),
    GgmlType.MXFP4: (),
}
_CORNERS: Final = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00], dtype=np.uint16)
"""Zeros of both signs, subnormals, the smallest normal, the largest finite of both signs, one."""


def random_blocks(kind: GgmlType, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(count, bytes of a block) random bytes whose scales are finite; the first blocks take the corners."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, size=(count, kind.block_bytes), dtype=np.uint8)
    for offset in _HALVES[kind]:
        half = rng.integers(0, 0x7C00, size=count, dtype=np.uint16) | (
            rng.integers(0, 2, size=count, dtype=np.uint16) << np.uint16(15)
        )
        half[: len(_CORNERS)] = _CORNERS
        blocks[:, offset : offset + 2] = half.view(np.uint8).reshape(-1, 2)
    if kind is GgmlType.MXFP4:
        blocks[:255, 0] = np.arange(255)  # every exponent; 255 is not a number in E8M0
        blocks[255:, 0] %= 255
    if kind in {GgmlType.F32, GgmlType.BF16}:
        wide = kind is GgmlType.F32
        upper = blocks.reshape(-1).view(np.uint16)[1 if wide else 0 :: 2 if wide else 1]
        upper[(upper & 0x7F80) == 0x7F80] &= 0x807F  # no infinities: a NaN's payload is nobody's business
    return blocks


def rung(count: int = 4096) -> Iterator[Row]:
    """One row per type; measured is the number of values whose bits differ."""
    for kind in GgmlType:
        blocks = random_blocks(kind, count)
        shape = (count, kind.block_size)
        theirs = dequantize_row(blocks, kind.name).reshape(shape)
        ours = np.ascontiguousarray(dequantize(blocks, kind, shape))
        differ = int(np.count_nonzero(ours.view(np.uint32) != theirs.view(np.uint32)))
        yield Row("T1", kind.name, differ, 0, f"{theirs.size} values of {count} blocks, bitwise")

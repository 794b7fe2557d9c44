"""Storage types of tensors: the one table that loader, dequantization, devices, kernels and tests go by."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class GgmlType(IntEnum):
    """A tensor's storage type; the value is its id in a GGUF file.

    A quantized row is cut into blocks of ``block_size`` weights that take ``block_bytes`` bytes each. A new type takes
    a line here, a function in ``dequantize``, and in the CUDA kernels a ``Unit`` (units.cuh), a ``Tile`` (gemm.cuh) and
    its place in repack.cu and element.cuh; whatever goes through all types goes through this class.

    Attributes:
        block_size: weights in one block.
        block_bytes: bytes of one block.
        block_minima: whether 32 weights at a time have a minimum besides a scale, so that a product needs the sums of
            the input's blocks.
    """

    block_size: int
    block_bytes: int
    block_minima: bool

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18  # f16 d, 16 nibble pairs
    Q4_1 = 3, 32, 20, True  # f16 d, f16 m, 16 nibble pairs
    Q5_0 = 6, 32, 22  # f16 d, u32 high bits, 16 nibble pairs
    Q5_1 = 7, 32, 24, True  # f16 d, f16 m, u32 high bits, 16 nibble pairs
    Q8_0 = 8, 32, 34  # f16 d, 32 i8
    Q2_K = 10, 256, 84  # 16 bytes of 4-bit scales and minima, 64 bit pair quadruples, f16 d, f16 dmin
    Q3_K = 11, 256, 110  # 32 bytes of high bits, 64 bit pair quadruples, 12 bytes of 6-bit scales, f16 d
    Q4_K = 12, 256, 144, True  # f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 nibble pairs
    Q5_K = 13, 256, 176, True  # as Q4_K, with 32 bytes of high bits before the nibbles
    Q6_K = 14, 256, 210  # 128 B low nibbles, 64 B high bit pairs, 16 i8 scales, f16 d
    IQ4_NL = 20, 32, 18  # f16 d, 16 nibble pairs, indices of a table
    IQ4_XS = 23, 256, 136  # f16 d, u16 and 4 bytes of 6-bit scales, 128 nibble pairs, indices of a table
    BF16 = 30, 1, 2
    MXFP4 = 39, 32, 17  # u8 shared exponent (E8M0), 16 nibble pairs (E2M1)

    # A type checker takes GgmlType(12), which looks a member up, for a call of this: hence the defaults.
    def __new__(cls, number: int, block_size: int = 0, block_bytes: int = 0, block_minima: bool = False) -> Self:
        """A member with what its line says."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.block_size = block_size
        member.block_bytes = block_bytes
        member.block_minima = block_minima
        return member

    @property
    def is_float(self) -> bool:
        """Whether each weight is a number by itself."""
        return self.block_size == 1

    def nbytes(self, n_weights: int) -> int:
        """Bytes of ``n_weights`` weights, a multiple of ``block_size``."""
        return n_weights // self.block_size * self.block_bytes


# Types that real files hold and this worker refuses, so that the message can name them.
UNSUPPORTED = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    21: "IQ3_S",
    22: "IQ2_S",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    34: "TQ1_0",
    35: "TQ2_0",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    40: "NVFP4",
    41: "Q1_0",
    42: "Q2_0",
}

# general.file_type, the recipe a file was quantized with (llama.cpp's llama_ftype).
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    38: "MXFP4",
}

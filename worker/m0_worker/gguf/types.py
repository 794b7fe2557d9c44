"""Tensor types of GGML that the worker can compute with, and the names of those it cannot."""

from __future__ import annotations

from enum import IntEnum


class GgmlType(IntEnum):
    """A tensor's storage type; the value is its id in a GGUF file.

    A quantized row is cut into blocks of ``block_size`` weights that take ``block_bytes`` bytes each.
    """

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    BF16 = 30
    MXFP4 = 39

    @property
    def block_size(self) -> int:
        """Weights in one block."""
        return _BLOCKS[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return _BLOCKS[self][1]

    def nbytes(self, n_weights: int) -> int:
        """Bytes of ``n_weights`` weights, a multiple of ``block_size``."""
        return n_weights // self.block_size * self.block_bytes


_BLOCKS = {
    GgmlType.F32: (1, 4),
    GgmlType.F16: (1, 2),
    GgmlType.BF16: (1, 2),
    GgmlType.Q4_0: (32, 18),  # f16 d, 16 nibble pairs
    GgmlType.Q4_1: (32, 20),  # f16 d, f16 m, 16 nibble pairs
    GgmlType.Q5_0: (32, 22),  # f16 d, u32 high bits, 16 nibble pairs
    GgmlType.Q5_1: (32, 24),  # f16 d, f16 m, u32 high bits, 16 nibble pairs
    GgmlType.Q8_0: (32, 34),  # f16 d, 32 i8
    GgmlType.Q4_K: (256, 144),  # f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 nibble pairs
    GgmlType.Q5_K: (256, 176),  # as Q4_K, with 32 bytes of high bits before the nibbles
    GgmlType.Q6_K: (256, 210),  # 128 B low nibbles, 64 B high bit pairs, 16 i8 scales, f16 d
    GgmlType.MXFP4: (32, 17),  # u8 shared exponent (E8M0), 16 nibble pairs (E2M1)
}

# Types that real files hold and this worker refuses, so that the message can name them.
UNSUPPORTED = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    40: "NVFP4",
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
    32: "BF16",
    38: "MXFP4",
}

"""Dequantization against gguf's own functions, bit for bit, and against the formulas in float64."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import quants
from m0_models.quantize import TYPES
from m0_models.recipes import RECIPES
from m0_worker.gguf import GgmlType, dequantize
from m0_worker.gguf.types import UNSUPPORTED

ROWS, BLOCKS = 7, 3


def random_blocks(kind: GgmlType, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (ROWS * BLOCKS, kind.block_bytes), dtype=np.uint8)


@pytest.mark.parametrize("kind", list(GgmlType))
def test_equals_the_gguf_package_bit_for_bit(kind: GgmlType) -> None:
    shape = (ROWS, BLOCKS * kind.block_size)
    raw = random_blocks(kind)
    ours = dequantize(raw.reshape(-1), kind, shape)
    with np.errstate(all="ignore"):
        theirs = quants.dequantize(raw.reshape(ROWS, -1), gguf.GGMLQuantizationType(kind.value))
    assert ours.dtype == np.float32
    assert ours.shape == shape
    same = (ours.view(np.uint32) == theirs.reshape(shape).view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs))
    assert same.all()


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    for kind in GgmlType:
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind.value)] == (kind.block_size, kind.block_bytes)


def test_every_type_can_be_written_and_has_a_file_recipe() -> None:
    """Miniatures, rungs and CUDA tests go through the recipes: a type without one would be in none of them."""
    assert set(TYPES) == {kind.name for kind in GgmlType}
    assert set(TYPES) <= set(RECIPES)


def test_no_type_is_both_supported_and_refused() -> None:
    assert not set(UNSUPPORTED) & {int(kind) for kind in GgmlType}
    known = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    assert set(known) <= {*UNSUPPORTED, *map(int, GgmlType)}
    assert {number: name for number, name in UNSUPPORTED.items() if number in known} == {
        number: name for number, name in known.items() if number in UNSUPPORTED
    }


@pytest.mark.parametrize("exponent", [0, 1, 2, 127, 128, 200, 252])
def test_mxfp4_values_are_e2m1_times_a_power_of_two(exponent: int) -> None:
    # M0-W-1822: nibble j is weight j, the high nibble of byte j is weight j + 16.
    codes = np.arange(32) % 16
    block = np.empty((1, 17), np.uint8)
    block[0, 0] = exponent
    block[0, 1:] = codes[:16] | codes[16:] << 4
    e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    expected = np.array([e2m1[c] for c in codes]) * 2.0 ** (exponent - 127)
    assert np.array_equal(dequantize(block, GgmlType.MXFP4, (32,)).astype(np.float64), expected)


def test_q4_0_by_its_formula() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 16, 32)
    d = np.float16(0.37)
    block = np.concatenate([np.array([d]).view(np.uint8), (codes[:16] | codes[16:] << 4).astype(np.uint8)])
    assert np.allclose(dequantize(block, GgmlType.Q4_0, (32,)), float(d) * (codes - 8), rtol=1e-7)


def test_some_rows_of_a_matrix_equal_those_of_the_whole() -> None:
    raw = random_blocks(GgmlType.Q6_K).reshape(ROWS, -1)
    raw[:, -2:] = 0x3C  # a finite scale
    with np.errstate(all="ignore"):
        whole = dequantize(raw, GgmlType.Q6_K, (ROWS, BLOCKS * 256))
        part = dequantize(raw[2:4], GgmlType.Q6_K, (2, BLOCKS * 256))
    assert np.array_equal(whole[2:4], part, equal_nan=True)

"""M0-W-1822: MXFP4 dequantization, products and a small attention against float64, decoded here from the format's text.

The decoder below is written from the OCP Microscaling specification (E2M1 elements, E8M0 scales) and GGUF's block
layout; it shares no line with the worker's. The spec's tolerance is E-TOL; the CPU device is held to float32 rounding.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from m0_parity.metrics import nmse
from m0_worker.devices.cpu import CpuDevice
from m0_worker.devices.cpu.cache import KvCache
from m0_worker.devices.interface import CacheShape, StoredTensor
from m0_worker.gguf import GgmlType, dequantize

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Doubles = npt.NDArray[np.float64]

BLOCK, BLOCK_BYTES = 32, 17
TIGHT = 1e-12
"""NMSE that the CPU device keeps: float32 rounding."""


def e2m1(code: int) -> float:
    """A 4-bit float: sign, two bits of exponent (bias 1), one of mantissa; exponent 0 is subnormal."""
    sign, exponent, mantissa = -1.0 if code & 8 else 1.0, (code >> 1) & 3, code & 1
    return sign * (mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1))


def e8m0(code: int) -> float:
    """A power of two with bias 127; 255 is not a number and no scale."""
    return 2.0 ** (code - 127)


def decode(raw: Bytes) -> Doubles:
    """Rows of MXFP4 blocks (rows, bytes) to float64: scale first, then low nibbles, then high nibbles."""
    blocks = raw.reshape(-1, BLOCK_BYTES)
    codes = np.concatenate([blocks[:, 1:] & 15, blocks[:, 1:] >> 4], axis=1)
    elements, powers = np.array([e2m1(c) for c in range(16)]), np.array([e8m0(c) for c in range(255)])
    return (elements[codes] * powers[blocks[:, 0], None]).reshape(len(raw), -1)


def matrix(rows: int, columns: int, *, scales: range = range(117, 125), seed: int = 0) -> Bytes:
    """Random MXFP4 bytes: every code occurs, scales from ``scales``."""
    rng = np.random.default_rng([rows, columns, seed])
    blocks = rng.integers(0, 256, (rows, columns // BLOCK, BLOCK_BYTES), dtype=np.uint8)
    blocks[..., 0] = rng.choice(np.array(scales), blocks.shape[:2])
    return blocks.reshape(rows, -1)


def stored(raw: Bytes, *shape: int) -> StoredTensor:
    return StoredTensor("w", shape, GgmlType.MXFP4, raw.reshape(-1))


def within_e_tol(expected: Doubles, seen: npt.NDArray[Any]) -> bool:
    """E-TOL: |a - b| <= 0.01 max(|b|, rms(b))."""
    rms = math.sqrt(float(np.square(expected).mean()))
    return bool((np.abs(seen - expected) <= 0.01 * np.maximum(np.abs(expected), rms)).all())


def agrees(expected: Doubles, seen: npt.NDArray[Any]) -> bool:
    return within_e_tol(expected, seen) and nmse(expected, seen) <= TIGHT


def floats(*shape: int, seed: int = 5) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def test_the_sixteen_codes_are_those_of_the_specification() -> None:
    assert [e2m1(code) for code in range(8)] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert [e2m1(code) for code in range(8, 16)] == [-0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    assert (e8m0(0), e8m0(127), e8m0(254)) == (2.0**-127, 1.0, 2.0**127)


def test_every_code_under_every_scale_bit_for_bit() -> None:
    codes = np.arange(16, dtype=np.uint8)
    blocks = np.tile(np.append(np.uint8(0), codes | (15 - codes) << 4), (255, 1))  # every code in either half
    blocks[:, 0] = np.arange(255)
    with np.errstate(over="ignore"):  # 2 or more times 2^127 is more than float32 holds
        due = decode(blocks).astype(np.float32) + np.float32(0)  # code 8, minus zero, is plain zero in ggml's table
    seen = dequantize(blocks, GgmlType.MXFP4, (255, BLOCK))
    assert np.array_equal(seen.view(np.uint32), due.view(np.uint32))


def test_one_block_written_out() -> None:
    # scale 2^1; byte j holds weight j in its low and weight j + 16 in its high nibble
    block = np.array([128, 0x21, 0x43, 0x65, 0x87, 0xA9, 0xCB, 0xED, 0x0F, *[0] * 8], np.uint8)
    low = [1, 3, 6, 12, -1, -3, -6, -12, *[0] * 8]
    high = [2, 4, 8, -0.0, -2, -4, -8, 0, *[0] * 8]
    assert dequantize(block[None], GgmlType.MXFP4, (1, BLOCK)).tolist() == [low + high]


@pytest.mark.parametrize("dense", [True, False], ids=["kept as floats", "kept as blocks"])
@pytest.mark.parametrize("rows", [1, 2, 48])
@pytest.mark.parametrize(("out", "columns"), [(96, 64), (33, 256), (7, 2880)])
def test_product(rows: int, out: int, columns: int, dense: bool) -> None:
    device = CpuDevice(dense_budget=1 << 22 if dense else 0)
    raw, x = matrix(out, columns), floats(rows, columns)
    weight: Any = device.weight([stored(raw, out, columns)])
    assert agrees(x @ decode(raw).T, device.linear(x, weight))


def test_product_of_blocks_at_the_edges_of_their_scale() -> None:
    device = CpuDevice(dense_budget=0)
    for scales in (range(3), range(20, 24), range(230, 234)):  # subnormal weights, tiny ones, huge ones
        raw, x = matrix(40, 64, scales=scales), floats(5, 64)
        weight: Any = device.weight([stored(raw, 40, 64)])
        assert agrees(x @ decode(raw).T, device.linear(x, weight))


def test_experts() -> None:
    # gpt-oss keeps MXFP4 in its experts alone: gate and up, clamped SwiGLU, down, each with a bias
    n, used, width, inner, tokens = 4, 2, 64, 96, 6
    device = CpuDevice()
    gate, up, down = matrix(n * inner, width), matrix(n * inner, width, seed=1), matrix(n * width, inner, seed=2)
    biases = floats(n, inner, seed=1), floats(n, inner, seed=2), floats(n, width, seed=3)
    x, router = floats(tokens, width), floats(tokens, n)
    expected = np.zeros((tokens, width))
    for t in range(tokens):
        chosen = np.argsort(-router[t], kind="stable")[:used]
        shares = np.exp(router[t, chosen].astype(np.float64))
        for e, share in zip(chosen, shares / shares.sum(), strict=True):
            g = decode(gate)[e * inner : (e + 1) * inner] @ x[t] + biases[0][e]
            u = decode(up)[e * inner : (e + 1) * inner] @ x[t] + biases[1][e]
            g, u = np.minimum(g, 7), np.clip(u, -7, 7)
            hidden = g / (1 + np.exp(-1.702 * g)) * (u + 1)
            expected[t] += share * (decode(down)[e * width : (e + 1) * width] @ hidden + biases[2][e])
    parts = [StoredTensor("w", (n, inner, width), GgmlType.MXFP4, raw.reshape(-1)) for raw in (gate, up)]
    gate_up: Any = device.weight(parts)
    downs: Any = device.weight([StoredTensor("w", (n, width, inner), GgmlType.MXFP4, down.reshape(-1))])
    ids, weights = device.top_experts(router, used)
    joined = np.concatenate(biases[:2], axis=1)
    assert agrees(expected, device.experts(x, ids, weights, gate_up, joined, downs, biases[2]))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("past", [0, 3])
def test_small_attention(past: int, window: int | None) -> None:
    # queries, keys, values and output are MXFP4 products; two query heads share a key head; each head has a sink
    heads, kv_heads, head_dim, width, tokens = 4, 2, 32, 64, 9
    device = CpuDevice()
    shapes = {"q": (128, width), "k": (64, width), "v": (64, width), "o": (width, 128)}
    raw = {name: matrix(*s, seed=seed) for seed, (name, s) in enumerate(shapes.items())}
    weights: dict[str, Any] = {name: device.weight([stored(raw[name], *s)]) for name, s in shapes.items()}
    x, sinks = floats(past + tokens, width), floats(heads)
    shape = CacheShape(1, kv_heads, head_dim, "f32")
    step: Any = SimpleNamespace(cache=KvCache(shape, past + tokens), model=SimpleNamespace(cache=shape))
    seen = np.empty((0, width), np.float32)
    for start, stop in ((0, past), (past, past + tokens)):
        if start < stop:
            step.position = start
            q, k, v = (device.linear(x[start:stop], weights[name]) for name in "qkv")
            mixed = device.attend(q, k, v, step, 0, scale=head_dim**-0.5, window=window, sinks=sinks)
            seen = np.concatenate([seen, device.linear(mixed, weights["o"])])
    q64, k64, v64 = ((x @ decode(raw[name]).T).reshape(len(x), -1, head_dim) for name in "qkv")
    expected = np.zeros((len(x), heads, head_dim))
    for t in range(len(x)):
        span = slice(0 if window is None else max(0, t - window + 1), t + 1)
        for h in range(heads):
            g = h // (heads // kv_heads)
            scores = np.append(k64[span, g] @ q64[t, h] / math.sqrt(head_dim), float(sinks[h]))
            shares = np.exp(scores - scores.max())
            expected[t, h] = shares[:-1] / shares.sum() @ v64[span, g]
    assert agrees(expected.reshape(len(x), -1) @ decode(raw["o"]).T, seen)


def _neighbours(raw: Bytes) -> Bytes:
    """Nibbles laid out as (2j, 2j + 1) instead of (j, j + 16)."""
    blocks = raw.reshape(-1, BLOCK_BYTES).copy()
    codes = np.concatenate([blocks[:, 1:] & 15, blocks[:, 1:] >> 4], axis=1)
    blocks[:, 1:] = codes[:, 0::2] | codes[:, 1::2] << 4
    return blocks.reshape(raw.shape)


def _one_power_more(raw: Bytes) -> Bytes:
    blocks = raw.reshape(-1, BLOCK_BYTES).copy()
    blocks[:, 0] += 1
    return blocks.reshape(raw.shape)


def _halves_exchanged(raw: Bytes) -> Bytes:
    blocks = raw.reshape(-1, BLOCK_BYTES).copy()
    blocks[:, 1:] = blocks[:, 1:] << 4 | blocks[:, 1:] >> 4
    return blocks.reshape(raw.shape)


def _one_sign(raw: Bytes) -> Bytes:
    """One weight of the whole matrix has the other sign."""
    wrong = raw.copy()
    wrong[0, 1] ^= 8
    return wrong


@pytest.mark.parametrize("damage", [_neighbours, _one_power_more, _halves_exchanged, _one_sign])
def test_a_wrong_layout_is_seen(damage: Callable[[Bytes], Bytes]) -> None:
    raw, x, device = matrix(96, 64), floats(9, 64), CpuDevice()
    raw[0, 1] = 0x77  # not zero, so that its sign matters
    weight: Any = device.weight([stored(damage(raw), 96, 64)])
    seen = device.linear(x, weight)
    assert not within_e_tol(x @ decode(raw).T, seen)
    assert nmse(x @ decode(raw).T, seen) > 1e6 * TIGHT

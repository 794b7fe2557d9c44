"""Operations of the CPU device one by one, against float64 formulas, at their edges."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_by_hand import nmse
from m0_models.quantize import quantize
from m0_worker.adapters.rope import Rope, Yarn
from m0_worker.devices.cpu import CpuDevice
from m0_worker.devices.cpu.cache import KvCache
from m0_worker.devices.interface import CacheShape, StoredTensor
from m0_worker.gguf import GgmlType, TensorInfo, dequantize

DEVICE = CpuDevice()
COMPILED = CpuDevice(dense_budget=0, threads=2)
COMPILED.expect([TensorInfo("w", (1, 32), GgmlType.F32, 0, 128)])
RNG = np.random.default_rng(3)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def stored(values: Any, quant: str = "F32", name: str = "w") -> StoredTensor:
    raw = values.view(np.uint8).reshape(-1) if quant == "F32" else quantize(values, quant).reshape(-1)
    return StoredTensor(name, values.shape, GgmlType[quant], raw)


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_rms_norm(rows: int, size: float) -> None:
    x, w = floats(rows, 96) * np.float32(size), floats(96)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * w
    assert nmse(expected, DEVICE.rms_norm(x, w, 1e-6)) < 1e-12


@pytest.mark.parametrize("rows", [1, 5])
def test_layer_norm(rows: int) -> None:
    x, w, b = floats(rows, 96) + np.float32(3), floats(96), floats(96)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) * w + b
    assert nmse(expected, DEVICE.layer_norm(x, w, b, 1e-5)) < 1e-12


EDGES = np.array([[-1e30, -100, -88, -10, -1e-6, 0.0, 1e-6, 0.5, 10, 88, 100, 1e30]], np.float32)


def test_gelu_at_its_edges() -> None:
    with np.errstate(over="ignore"):
        y = DEVICE.gelu(EDGES)
    wide = EDGES.astype(np.float64)
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    expected = 0.5 * wide * (1 + np.tanh(inner))
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_swiglu_at_its_edges() -> None:
    up = np.ones_like(EDGES)
    y = DEVICE.swiglu(np.concatenate([EDGES, up], axis=1))
    wide = EDGES.astype(np.float64)
    with np.errstate(over="ignore"):
        expected = wide / (1 + np.exp(-wide))
    assert np.allclose(y[:, 1:], expected[:, 1:], rtol=1e-6, atol=1e-30)
    assert abs(float(y[0, 0])) < 1e-7  # 1e30 times a sigmoid that float32 cannot hold


def test_swiglu_oai_clamps_gate_from_above_and_up_on_both_sides() -> None:
    gate = np.array([[-9.0, -1.0, 3.0, 7.0, 9.0, 100.0]], np.float32)
    up = np.array([[2.0, -9.0, 9.0, -100.0, 100.0, 0.5]], np.float32)
    g, u = np.minimum(gate.astype(np.float64), 7), np.clip(up.astype(np.float64), -7, 7)
    expected = g / (1 + np.exp(-1.702 * g)) * (u + 1)
    assert np.allclose(DEVICE.swiglu_oai(np.concatenate([gate, up], axis=1)), expected, rtol=1e-6)


@pytest.mark.parametrize("pairing", ["norm", "neox"])
@pytest.mark.parametrize("n_rot", [8, 6])
def test_rope_rotates_the_pairs_of_its_kind(pairing: Any, n_rot: int) -> None:
    head_dim, heads, base = 8, 3, 100.0
    table = DEVICE.rotation(Rope(pairing, n_rot, base))
    table.grow(20)
    x = floats(4, heads * head_dim)
    y = DEVICE.rope(x, table, SimpleNamespace(position=7), head_dim=head_dim)  # type: ignore[arg-type]  # only the position is read
    expected = x.astype(np.float64).reshape(4, heads, head_dim).copy()
    for t in range(4):
        for j in range(n_rot // 2):
            a, b = (2 * j, 2 * j + 1) if pairing == "norm" else (j, j + n_rot // 2)
            turn = np.exp(1j * (7 + t) * base ** (-2 * j / n_rot))
            z = (expected[t, :, a] + 1j * expected[t, :, b]) * turn
            expected[t, :, a], expected[t, :, b] = z.real, z.imag
    assert nmse(expected.reshape(4, -1), y) < 1e-12


def test_a_rotation_table_grows_without_changing() -> None:
    rope = Rope("neox", 64, 10000.0)
    once, twice = DEVICE.rotation(rope), DEVICE.rotation(rope)
    once.grow(300)
    twice.grow(10)
    twice.grow(300)
    x = floats(290, 64)
    step: Any = SimpleNamespace(position=10)
    assert np.array_equal(DEVICE.rope(x, once, step, head_dim=64), DEVICE.rope(x, twice, step, head_dim=64))


def test_yarn_correction_range_of_gpt_oss() -> None:
    # n_rot 64, base 150000, 4096 positions: pairs 8.09 to 17.40, which llama.cpp rounds to 8 and 18.
    rounded, exact = Yarn(4096).ramp(64, 150000.0), Yarn(4096, rounded=False).ramp(64, 150000.0)
    assert (rounded[8], rounded[18], exact[8], exact[18]) == (1, 0, 1, 0)
    assert rounded[9] == pytest.approx(1 - 1 / 10)
    assert exact[9] == pytest.approx(1 - (9 - 8.0928) / (17.3980 - 8.0928), abs=1e-4)


@pytest.mark.parametrize("window", [None, 1, 5, 64])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("n_tokens", [1, 9, 130])
@pytest.mark.parametrize("compiled", [False, True])
def test_attention(
    window: int | None, heads: int, kv_heads: int, with_sinks: bool, n_tokens: int, compiled: bool
) -> None:
    head_dim, past = 64 if compiled else 16, 20
    device = COMPILED if compiled else DEVICE
    shape = CacheShape(2, kv_heads, head_dim, "f32")
    cache = KvCache(shape, past + n_tokens)
    keys, values = floats(past + n_tokens, kv_heads, head_dim), floats(past + n_tokens, kv_heads, head_dim)
    cache.write(1, 0, keys[:past], values[:past])
    q = floats(n_tokens, heads * head_dim)
    sinks = floats(heads) if with_sinks else None
    step: Any = SimpleNamespace(position=past, cache=cache, model=SimpleNamespace(cache=shape))
    new = keys[past:].reshape(n_tokens, -1), values[past:].reshape(n_tokens, -1)
    y = device.attend(q, *new, step, 1, scale=0.3, window=window, sinks=sinks)
    expected = np.zeros((n_tokens, heads, head_dim))
    for t in range(n_tokens):
        seen = slice(0 if window is None else max(0, past + t - window + 1), past + t + 1)
        for h in range(heads):
            g = h // (heads // kv_heads)
            weights = np.exp(keys[seen, g].astype(np.float64) @ q.reshape(n_tokens, heads, -1)[t, h] * 0.3)
            total = weights.sum() + (0 if sinks is None else math.exp(float(sinks[h])))
            expected[t, h] = weights @ values[seen, g] / total
    assert nmse(expected.reshape(n_tokens, -1), y) < 1e-12
    assert not cache.read(0, 0, past)[0].any()  # the other layer


def test_attention_survives_large_scores() -> None:
    shape = CacheShape(1, 1, 4, "f32")
    step: Any = SimpleNamespace(position=0, cache=KvCache(shape, 3), model=SimpleNamespace(cache=shape))
    big = np.full((3, 4), 1e4, np.float32)
    y = DEVICE.attend(big, big, floats(3, 4), step, 0, scale=1.0)
    assert np.isfinite(y).all()


def test_top_experts_take_the_first_among_equals() -> None:
    ids, weights = DEVICE.top_experts(np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]], np.float32), 2)
    assert ids.tolist() == [[1, 2], [0, 1]]
    assert weights.tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("quant", ["F32", "MXFP4", "Q8_0"])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("dense", [True, False])
def test_linear_over_stacked_parts(quant: str, rows: int, dense: bool) -> None:
    # M0-W-1822 allows the product with MXFP4 weights an error of 0.01 of the larger of value and rms.
    device = CpuDevice(dense_budget=1 << 20 if dense else 0)
    a, b = stored(floats(300, 64), quant), stored(floats(7, 64), "Q4_0")
    weight: Any = device.weight([a, b])
    x, bias, residual = floats(rows, 64), floats(307), floats(rows, 307)
    matrix = np.concatenate([dequantize(t.data, t.type, t.shape) for t in (a, b)]).astype(np.float64)
    expected = x @ matrix.T + bias + residual
    assert nmse(expected, device.linear(x, weight, bias, residual)) < 1e-12


def test_embedding_rows() -> None:
    table = stored(floats(10, 64), "Q4_0")
    step: Any = SimpleNamespace(tokens=np.array([3, 3, 9]), position=4, n_tokens=3)
    whole = dequantize(table.data, table.type, table.shape)
    for budget in (0, 1 << 20):
        device = CpuDevice(dense_budget=budget)
        weight: Any = device.weight([table])
        assert np.array_equal(device.embed(weight, step), whole[[3, 3, 9]])
        assert np.array_equal(device.embed_positions(weight, step), whole[[4, 5, 6]])  # M0-W-1434

"""The five architectures once more, in float64 and as plainly as can be: no cache, no chunks, no fusion.

Written from the papers and llama.cpp's graphs, reads files with the gguf package, shares nothing with the worker.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf import quants

if TYPE_CHECKING:
    from pathlib import Path

Array = Any  # float64 arrays


class File:
    """Metadata relative to the architecture, tensors dequantized to float64."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self._fields = {name: field.contents() for name, field in reader.fields.items()}
        self.architecture = str(self._fields["general.architecture"])
        self.tensors = {t.name: quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}

    def key(self, name: str, default: Any = None) -> Any:
        return self._fields.get(f"{self.architecture}.{name}", default)

    def __getitem__(self, name: str) -> Array:
        return self.tensors[name]

    def linear(self, x: Array, name: str) -> Array:
        y: Array = x @ self[f"{name}.weight"].T
        return y + self.tensors.get(f"{name}.bias", 0.0)


def rms_norm(x: Array, w: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w


def layer_norm(x: Array, w: Array, b: Array, eps: float) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * w + b


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def angles(f: File, n_rot: int, n_tokens: int, n_ctx: int, *, rounded: bool = True) -> tuple[Array, float]:
    """Rotation angles (T, n_rot / 2) and the magnitude of cosine and sine."""
    base = float(f.key("rope.freq_base", 10000.0))
    freq = base ** (-2 * np.arange(n_rot // 2) / n_rot)
    magnitude = float(f.key("rope.scaling.attn_factor", 1.0))
    if "rope_freqs.weight" in f.tensors:
        freq = freq / f["rope_freqs.weight"]
    if "rope_factors_long.weight" in f.tensors:
        padded = math.ceil(n_ctx / 256) * 256
        long = padded > f.key("rope.scaling.original_context_length", f.key("context_length"))
        freq = freq / f[f"rope_factors_{'long' if long else 'short'}.weight"]
    if f.key("rope.scaling.type") == "yarn":
        factor, original = float(f.key("rope.scaling.factor")), f.key("rope.scaling.original_context_length")
        low, high = (n_rot * math.log(original / (b * 2 * math.pi)) / (2 * math.log(base)) for b in (32, 1))
        if rounded:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, n_rot - 1)
        ramp = np.clip((np.arange(n_rot // 2) - low) / max(0.001, high - low), 0, 1)
        freq = freq / factor * ramp + freq * (1 - ramp)
        magnitude *= 1 + 0.1 * math.log(factor)
    return np.arange(n_tokens)[:, None] * freq, magnitude


def rope(x: Array, angle: Array, magnitude: float, *, neox: bool) -> Array:
    """Rotate pairs of the first features of each head: x (T, heads, head_dim), angle (T, n_rot / 2)."""
    half = angle.shape[1]
    y = x.copy()
    a, b = (slice(0, half), slice(half, 2 * half)) if neox else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    cos, sin = np.cos(angle)[:, None] * magnitude, np.sin(angle)[:, None] * magnitude
    y[..., a] = x[..., a] * cos - x[..., b] * sin
    y[..., b] = x[..., a] * sin + x[..., b] * cos
    return y


def attention(q: Array, k: Array, v: Array, *, window: int | None = None, sinks: Array | None = None) -> Array:
    """q (T, heads, head_dim), k and v (T, kv_heads, head_dim) -> (T, heads * head_dim)."""
    n_tokens, n_head, head_dim = q.shape
    out = np.zeros_like(q)
    for h in range(n_head):
        g = h // (n_head // k.shape[1])
        for t in range(n_tokens):
            start = 0 if window is None else max(0, t - window + 1)
            s = k[start : t + 1, g] @ q[t, h] / math.sqrt(head_dim)
            if sinks is not None:
                s = np.append(s, sinks[h])
            p = np.exp(s - s.max())
            p /= p.sum()
            out[t, h] = p[: t + 1 - start] @ v[start : t + 1, g]
    return out.reshape(n_tokens, -1)


def experts(f: File, prefix: str, x: Array) -> Array:
    out = np.zeros_like(x)
    router = f.linear(x, f"{prefix}ffn_gate_inp")
    for t, row in enumerate(x):
        chosen = np.argsort(-router[t], kind="stable")[: f.key("expert_used_count")]
        p = np.exp(router[t, chosen] - router[t].max())
        for e, share in zip(chosen, p / p.sum(), strict=True):
            w = {part: f[f"{prefix}ffn_{part}_exps.weight"][e] for part in ("gate", "up", "down")}
            b = {part: f[f"{prefix}ffn_{part}_exps.bias"][e] for part in ("gate", "up", "down")}
            gate = np.minimum(w["gate"] @ row + b["gate"], 7)
            up = np.clip(w["up"] @ row + b["up"], -7, 7)
            out[t] += share * (w["down"] @ (gate / (1 + np.exp(-1.702 * gate)) * (up + 1)) + b["down"])
    return out


def logits(path: Path, tokens: list[int], *, n_ctx: int | None = None, rounded: bool = True) -> Array:
    """Logits of every token, (T, n_vocab)."""
    f = File(path)
    a, n_tokens = f.architecture, len(tokens)
    n_embd, n_head = f.key("embedding_length"), f.key("attention.head_count")
    n_kv_head = f.key("attention.head_count_kv", n_head)
    head_dim = f.key("attention.key_length", n_embd // n_head)
    n_rot = f.key("rope.dimension_count", head_dim)
    eps = f.key("attention.layer_norm_epsilon" if a == "gpt2" else "attention.layer_norm_rms_epsilon")
    angle, magnitude = angles(f, n_rot, n_tokens, n_ctx or f.key("context_length"), rounded=rounded)

    def norm(x: Array, name: str) -> Array:
        if a == "gpt2":
            return layer_norm(x, f[f"{name}.weight"], f[f"{name}.bias"], eps)
        return rms_norm(x, f[f"{name}.weight"], eps)

    x = f["token_embd.weight"][tokens]
    if a == "gpt2":
        x = x + f["position_embd.weight"][:n_tokens]
    for i in range(f.key("block_count")):
        p = f"blk.{i}."
        h = norm(x, f"{p}attn_norm")
        if f"{p}attn_qkv.weight" in f.tensors:
            q, k, v = np.split(f.linear(h, f"{p}attn_qkv"), [n_head * head_dim, (n_head + n_kv_head) * head_dim], -1)
        else:
            q, k, v = (f.linear(h, f"{p}attn_{part}") for part in "qkv")
        q, k, v = (
            q.reshape(n_tokens, n_head, -1),
            k.reshape(n_tokens, n_kv_head, -1),
            v.reshape(n_tokens, n_kv_head, -1),
        )
        if a != "gpt2":
            q, k = (rope(y, angle, magnitude, neox=a != "llama") for y in (q, k))
        window = f.key("attention.sliding_window") if a == "gpt-oss" and i % 2 == 0 else None
        x = x + f.linear(
            attention(q, k, v, window=window, sinks=f.tensors.get(f"{p}attn_sinks.weight")), f"{p}attn_output"
        )
        h = norm(x, f"{p}post_attention_norm" if a == "gpt-oss" else f"{p}ffn_norm")
        if a == "gpt-oss":
            x = x + experts(f, p, h)
        elif a == "gpt2":
            x = x + f.linear(gelu(f.linear(h, f"{p}ffn_up")), f"{p}ffn_down")
        elif a == "phi3":
            gate, up = np.split(f.linear(h, f"{p}ffn_up"), 2, -1)
            x = x + f.linear(silu(gate) * up, f"{p}ffn_down")
        else:
            x = x + f.linear(silu(f.linear(h, f"{p}ffn_gate")) * f.linear(h, f"{p}ffn_up"), f"{p}ffn_down")
    x = norm(x, "output_norm")
    return f.linear(x, "output" if "output.weight" in f.tensors else "token_embd")

"""The five architectures in float64, as plainly as can be, with every choice of an `Arithmetic` left open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m0_models.readouts.arithmetic import RIGHT, Arithmetic, Array, Integers, Mask, gelu_tanh, grouped, silu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_models.shapes import Shape

_BETA_FAST, _BETA_SLOW = 32, 1
"""YaRN: rotations within the original context above which a pair is kept, and below which it is stretched."""


@dataclass(frozen=True, slots=True)
class Network:
    """A model: its sizes, and its tensors by their names in a file, in float64 and numpy order."""

    shape: Shape
    tensors: dict[str, Array]

    def linear(self, x: Array, name: str) -> Array:
        """X (T, in) times the matrix ``name``.weight (out, in), with its bias where the model has one."""
        y = x @ self.tensors[f"{name}.weight"].T
        bias = self.tensors.get(f"{name}.bias")
        return y if bias is None else y + bias


def hidden(network: Network, tokens: Sequence[int], prompt: int, how: Arithmetic = RIGHT) -> Array:
    """The states (S, W) that the output matrix is applied to: at the end of the prompt, and after each later token.

    The first ``prompt`` tokens were given, the others generated one by one. No token's state depends on a later
    generated one, so one pass gives all steps.
    """
    s, t = network.shape, network.tensors
    positions = how.positions(len(tokens), prompt)
    x = t["token_embd.weight"][list(tokens)]
    if "position_embd.weight" in t:
        x = x + t["position_embd.weight"][positions]
    for layer in range(s.layers):
        prefix = f"blk.{layer}."
        read = _norm(network, x, f"{prefix}attn_norm", how) if how.attention_norm else x
        added = _attention(network, read, layer, positions, how.visible(len(tokens), prompt), how)
        before, x = x, (x + added if how.attention_residual else added)
        name = "post_attention_norm" if s.experts else "ffn_norm"
        source = before if how.parallel else x
        read = _norm(network, source, f"{prefix}{name}", how) if how.ffn_norm else source
        added = (_experts if s.experts else _feed_forward)(network, read, prefix, how)
        x = x + added if how.ffn_residual else added
    rows = np.concatenate([x[prompt - how.last : prompt - how.last + 1], x[prompt:]])
    return _norm(network, rows, "output_norm", how) if how.final_norm else rows


def _norm(network: Network, x: Array, name: str, how: Arithmetic) -> Array:
    s, t = network.shape, network.tensors
    weight = t[f"{name}.weight"]
    if s.architecture == "gpt2":
        return how.layer(x, weight, t[f"{name}.bias"], s.epsilon)
    return how.rms(x, weight, s.epsilon)


def _attention(network: Network, x: Array, layer: int, positions: Integers, visible: Mask, how: Arithmetic) -> Array:
    s, prefix = network.shape, f"blk.{layer}."
    if f"{prefix}attn_qkv.weight" in network.tensors:
        fused = network.linear(x, f"{prefix}attn_qkv")
        q, k, v = np.split(fused, [s.queries, s.queries + s.keys], axis=-1)
    else:
        q, k, v = (network.linear(x, f"{prefix}attn_{part}") for part in "qkv")
    heads = {
        "q": q.reshape(len(x), s.heads, -1),
        "k": k.reshape(len(x), s.kv_heads, -1),
        "v": v.reshape(len(x), s.kv_heads, -1),
    }
    if s.architecture != "gpt2":
        for part in how.rotation.of:
            shift = how.rotation.query_shift if part == "q" else 0
            heads[part] = _rotate(network, heads[part], positions + shift, how)
    group = grouped(s.heads, s.kv_heads)
    scores = heads["q"].swapaxes(0, 1) @ heads["k"][:, group].transpose(1, 2, 0) / math.sqrt(s.head_dim)
    window = how.window(s.window, layer) if s.window else 0
    if window:
        place = np.arange(len(x))
        visible = visible & (place[:, None] - place[None, :] < window)
    scores = np.where(visible, scores, -np.inf)
    weights = _softmax(scores, network.tensors.get(f"{prefix}attn_sinks.weight"))
    mixed = (weights @ heads["v"][:, group].swapaxes(0, 1)).swapaxes(0, 1).reshape(len(x), -1)
    return network.linear(mixed, f"{prefix}attn_output")


def _softmax(scores: Array, sinks: Array | None) -> Array:
    """Weights (H, T, T) of scores; a sink (H,) is one more score whose value is nothing."""
    top = scores.max(-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    raised = np.exp(scores - top)
    total = raised.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks[:, None, None] - top)
    value: Array = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
    return value


def _rotate(network: Network, x: Array, positions: Integers, how: Arithmetic) -> Array:
    s = network.shape
    angle, magnitude = _angles(network, how)
    turn = positions[:, None, None] * angle
    half = len(angle)
    if s.architecture == "llama":
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    cos, sin = np.cos(turn) * magnitude, np.sin(turn) * magnitude
    y = x.copy()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., first] * sin + x[..., second] * cos
    return y


def _angles(network: Network, how: Arithmetic) -> tuple[Array, float]:
    """Radians a position turns each pair by, (rotated / 2,), and YaRN's factor on cosine and sine."""
    s, r = network.shape, how.rotation
    base, rotated = s.rope_base, s.rotated
    pair = np.arange(rotated // 2)
    angle = base ** (-r.exponent * pair / rotated)
    angle = np.where(pair < r.rotated * (rotated // 2), angle, 0.0)
    if "rope_freqs.weight" in network.tensors:
        angle = angle / network.tensors["rope_freqs.weight"]
    if not s.yarn_factor or r.yarn == "ignored":
        return angle, 1.0
    low, high = (
        rotated * math.log(s.yarn_context / (beta * 2 * math.pi)) / (2 * math.log(base))
        for beta in (_BETA_FAST, _BETA_SLOW)
    )
    if r.yarn != "unrounded":
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    ramp = np.clip((pair - low) / max(0.001, high - low), 0, 1)
    if r.yarn == "reversed":
        ramp = 1 - ramp
    if r.yarn == "everywhere":
        ramp = np.ones_like(ramp)
    angle = angle / s.yarn_factor * ramp + angle * (1 - ramp)
    return angle, 1 + 0.1 * math.log(s.yarn_factor)


def _feed_forward(network: Network, x: Array, prefix: str, how: Arithmetic) -> Array:
    architecture = network.shape.architecture
    if architecture == "gpt2":
        act = how.activation or gelu_tanh
        return network.linear(act(network.linear(x, f"{prefix}ffn_up")), f"{prefix}ffn_down")
    act = how.activation or silu
    if architecture == "phi3":
        gate, up = np.split(network.linear(x, f"{prefix}ffn_up"), 2, axis=-1)
    else:
        gate, up = network.linear(x, f"{prefix}ffn_gate"), network.linear(x, f"{prefix}ffn_up")
    return network.linear(act(gate) * up, f"{prefix}ffn_down")


def _experts(network: Network, x: Array, prefix: str, how: Arithmetic) -> Array:
    s, t = network.shape, network.tensors
    weight = {part: t[f"{prefix}ffn_{part}_exps.weight"] for part in ("gate", "up", "down")}
    bias = {part: t[f"{prefix}ffn_{part}_exps.bias"] for part in ("gate", "up", "down")}
    shares = np.zeros((len(x), s.experts))
    for row, scores in enumerate(network.linear(x, f"{prefix}ffn_gate_inp")):
        chosen, share = how.choose(scores, s.experts_used)
        shares[row, chosen] = share
    out = np.zeros_like(x)
    for expert in range(s.experts):
        rows = np.flatnonzero(shares[:, expert])
        gate, up = (x[rows] @ weight[part][expert].T + bias[part][expert] for part in ("gate", "up"))
        down = how.expert_unit(gate, up) @ weight["down"][expert].T + bias["down"][expert]
        out[rows] += shares[rows, expert, None] * down
    return out

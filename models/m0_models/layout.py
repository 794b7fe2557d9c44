"""Which tensors and metadata a file of each architecture holds, as its converter writes them.

Source: the tensor lists and key lists of llama.cpp's src/models/{llama,qwen2,phi3,gpt2,openai-moe}.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_models.shapes import Shape

Role = Literal[
    "embedding", "position", "output", "matrix", "experts", "router", "norm", "bias", "sink", "factors", "expert-bias"
]


LAYER_NORM: Final = {"gpt2"}
"""Architectures whose norms subtract the mean and have a bias; the others have RMSNorm."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor to be made: name, numpy shape (rows first), what it is, and its layer (-1 outside the layers)."""

    name: str
    shape: tuple[int, ...]
    role: Role
    layer: int = -1


def specs(shape: Shape) -> Iterator[Spec]:
    """All tensors of a model of ``shape``, in file order."""
    s, gpt2 = shape, shape.architecture == "gpt2"
    yield Spec("token_embd.weight", (s.vocabulary, s.width), "embedding")
    if gpt2:
        yield Spec("position_embd.weight", (s.context, s.width), "position")
    if s.rope_freqs:
        yield Spec("rope_freqs.weight", (s.rotated // 2,), "factors")
    if s.long_rope:
        yield Spec("rope_factors_long.weight", (s.rotated // 2,), "factors")
        yield Spec("rope_factors_short.weight", (s.rotated // 2,), "factors")
    for layer in range(s.layers):
        for short, dims, role in _layer(s):
            yield Spec(f"blk.{layer}.{short}", dims, role, layer)
    yield Spec("output_norm.weight", (s.width,), "norm")
    if s.architecture in LAYER_NORM:
        yield Spec("output_norm.bias", (s.width,), "bias")
    if not s.tied:
        yield Spec("output.weight", (s.vocabulary, s.width), "output")


def _layer(s: Shape) -> Iterator[tuple[str, tuple[int, ...], Role]]:
    gpt2, moe = s.architecture == "gpt2", s.architecture == "gpt-oss"
    yield from _norm("attn_norm", s)
    if s.architecture in {"phi3", "gpt2"}:
        fused = s.queries + 2 * s.keys
        yield "attn_qkv.weight", (fused, s.width), "matrix"
        if s.qkv_bias:
            yield "attn_qkv.bias", (fused,), "bias"
    else:
        for short, rows in (("attn_q", s.queries), ("attn_k", s.keys), ("attn_v", s.keys)):
            yield f"{short}.weight", (rows, s.width), "matrix"
            if s.qkv_bias:
                yield f"{short}.bias", (rows,), "bias"
    yield "attn_output.weight", (s.width, s.queries), "matrix"
    if gpt2 or moe:
        yield "attn_output.bias", (s.width,), "bias"
    if moe:
        yield "attn_sinks.weight", (s.heads,), "sink"
        yield from _experts(s)
        return
    yield from _norm("ffn_norm", s)
    doubled = 2 if s.architecture == "phi3" else 1
    if not gpt2 and doubled == 1:
        yield "ffn_gate.weight", (s.feed_forward, s.width), "matrix"
    yield "ffn_up.weight", (doubled * s.feed_forward, s.width), "matrix"
    if gpt2:
        yield "ffn_up.bias", (s.feed_forward,), "bias"
    yield "ffn_down.weight", (s.width, s.feed_forward), "matrix"
    if gpt2:
        yield "ffn_down.bias", (s.width,), "bias"


def _norm(short: str, s: Shape) -> Iterator[tuple[str, tuple[int, ...], Role]]:
    yield f"{short}.weight", (s.width,), "norm"
    if s.architecture in LAYER_NORM:
        yield f"{short}.bias", (s.width,), "bias"


def _experts(s: Shape) -> Iterator[tuple[str, tuple[int, ...], Role]]:
    yield "post_attention_norm.weight", (s.width,), "norm"
    yield "ffn_gate_inp.weight", (s.experts, s.width), "router"
    yield "ffn_gate_inp.bias", (s.experts,), "bias"
    inner = s.expert_feed_forward
    for short, out, into in (("ffn_gate", inner, s.width), ("ffn_up", inner, s.width), ("ffn_down", s.width, inner)):
        yield f"{short}_exps.weight", (s.experts, out, into), "experts"
        yield f"{short}_exps.bias", (s.experts, out), "expert-bias"


def metadata(shape: Shape) -> dict[str, object]:
    """The architecture's keys; general.* and tokenizer.* are the caller's."""
    s, a = shape, shape.architecture
    keys: dict[str, object] = {
        "context_length": s.context,
        "embedding_length": s.width,
        "block_count": s.layers,
        "feed_forward_length": s.feed_forward,
        "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads,
        "vocab_size": s.vocabulary,
    }
    keys[f"attention.layer_norm_{'' if a in LAYER_NORM else 'rms_'}epsilon"] = s.epsilon
    if a != "gpt2":
        keys |= {
            "rope.dimension_count": s.rotated,
            "rope.freq_base": s.rope_base,
        }
    if s.head_dim * s.heads != s.width or a == "gpt-oss":
        keys |= {"attention.key_length": s.head_dim, "attention.value_length": s.head_dim}
    if s.window:
        keys["attention.sliding_window"] = s.window
    if s.long_rope:
        keys |= {"rope.scaling.original_context_length": s.long_rope, "rope.scaling.attn_factor": 1.19}
    if s.experts:
        keys |= {
            "expert_count": s.experts,
            "expert_used_count": s.experts_used,
            "expert_feed_forward_length": s.expert_feed_forward,
        }
    if s.yarn_factor:
        keys |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": s.yarn_factor,
            "rope.scaling.original_context_length": s.yarn_context,
        }
    return {f"{a}.{key}": value for key, value in keys.items()}

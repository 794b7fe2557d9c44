"""Llama (Touvron et al. 2023) and Qwen2: RMSNorm, grouped-query attention with RoPE, SwiGLU, pre-norm (M0-W-1214).

The two differ in the pairing of rotated features and in Qwen2's biases on queries, keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from m0_worker.adapters.base import ModelAdapter, add_linear
from m0_worker.devices.interface import CacheShape, Pause

if TYPE_CHECKING:
    from collections.abc import Generator

    from m0_worker.adapters.base import Loader, Options
    from m0_worker.devices.interface import Array, Step, Table, Vector, Weight


@dataclass(frozen=True, slots=True)
class Block:
    """Weights of one layer."""

    attn_norm: Vector  # (n_embd,)
    attn_qkv: Weight  # ((n_head + 2 n_kv_head) head_dim, n_embd)
    attn_qkv_bias: Vector | None
    attn_output: Weight  # (n_embd, n_head head_dim)
    attn_output_bias: Vector | None
    ffn_norm: Vector  # (n_embd,)
    ffn_gate_up: Weight  # (2 n_ff, n_embd)
    ffn_down: Weight  # (n_embd, n_ff)


@dataclass(frozen=True)
class Llama(ModelAdapter):
    """A Llama or Qwen2 model."""

    architectures: ClassVar[tuple[str, ...]] = ("llama", "qwen2")

    cache: CacheShape
    n_vocab: int
    n_head: int
    n_ff: int
    eps: float
    scale: float
    rope: Table
    token_embd: Weight  # (n_vocab, n_embd)
    blocks: tuple[Block, ...]
    output_norm: Vector  # (n_embd,)
    output: Weight  # (n_vocab, n_embd)

    @classmethod
    def load(cls, load: Loader, options: Options) -> Self:
        """See the base class."""
        n_embd = load.count("embedding_length")
        n_layer = load.count("block_count", at_most=4096)
        n_ff = load.count("feed_forward_length")
        n_head, n_kv_head, head_dim = load.heads(n_embd)
        n_q, n_kv = n_head * head_dim, n_kv_head * head_dim
        n_vocab = load.rows("token_embd.weight")
        divisors = load.host_vector("rope_freqs.weight", head_dim // 2) if load.has("rope_freqs.weight") else None
        rope = load.rope("norm" if load.architecture == "llama" else "neox", head_dim, divisors=divisors)
        if rope.n_rot != head_dim:
            raise load.fail("bad-heads", f"rope.dimension_count {rope.n_rot} differs from the head's {head_dim}")

        def block(i: int) -> Block:
            qkv = [(f"blk.{i}.attn_{part}", n) for part, n in (("q", n_q), ("k", n_kv), ("v", n_kv))]
            biases = [(f"{name}.bias", n) for name, n in qkv]
            return Block(
                attn_norm=load.vector((f"blk.{i}.attn_norm.weight", n_embd)),
                attn_qkv=load.weight(n_embd, *((f"{name}.weight", n) for name, n in qkv)),
                attn_qkv_bias=load.vector(*biases) if load.architecture == "qwen2" else load.bias(*biases),
                attn_output=load.weight(n_q, (f"blk.{i}.attn_output.weight", n_embd)),
                attn_output_bias=load.bias((f"blk.{i}.attn_output.bias", n_embd)),
                ffn_norm=load.vector((f"blk.{i}.ffn_norm.weight", n_embd)),
                ffn_gate_up=load.weight(n_embd, (f"blk.{i}.ffn_gate.weight", n_ff), (f"blk.{i}.ffn_up.weight", n_ff)),
                ffn_down=load.weight(n_ff, (f"blk.{i}.ffn_down.weight", n_embd)),
            )

        token_embd = load.weight(n_embd, ("token_embd.weight", n_vocab))
        tied = not load.has("output.weight")
        return cls(
            cache=CacheShape(n_layer, n_kv_head, head_dim, options.kv_dtype),
            n_vocab=n_vocab,
            n_head=n_head,
            n_ff=n_ff,
            eps=load.number("attention.layer_norm_rms_epsilon"),
            scale=load.number("attention.scale", head_dim**-0.5),
            rope=load.rotation(rope),
            token_embd=token_embd,
            blocks=tuple(block(i) for i in range(n_layer)),
            output_norm=load.vector(("output_norm.weight", n_embd)),
            output=token_embd if tied else load.weight(n_embd, ("output.weight", n_vocab)),
        )

    def forward(self, step: Step) -> Generator[Pause, None, Array]:
        """See the base class."""
        d = step.device
        head_dim = self.cache.head_dim
        n_q, n_kv, n_ff = self.n_head * head_dim, self.cache.n_kv_head * head_dim, self.n_ff
        x = d.embed(self.token_embd, step)  # (T,) -> (T, n_embd)
        step.tap("embd", -1, x)
        for i, block in enumerate(self.blocks):
            h = d.rms_norm(x, block.attn_norm, self.eps)
            step.tap("attn_norm", i, h)
            qkv = d.linear(h, block.attn_qkv, block.attn_qkv_bias)  # (T, n_embd) -> (T, n_q + 2 n_kv)
            q, k, v = d.split(qkv, n_q, n_kv, n_kv)  # -> (T, n_q), (T, n_kv), (T, n_kv)
            step.tap("Qcur", i, q)
            step.tap("Kcur", i, k)
            step.tap("Vcur", i, v)
            yield Pause.OPERATION
            q = d.rope(q, self.rope, step, head_dim=head_dim)
            k = d.rope(k, self.rope, step, head_dim=head_dim)
            step.tap("Qcur", i, q)
            step.tap("Kcur", i, k)
            h = d.attend(q, k, v, step, i, scale=self.scale)  # -> (T, n_q)
            step.tap("kqv_out", i, h)
            yield Pause.OPERATION
            # (T, n_q) -> (T, n_embd)
            x = add_linear(step, "attn_out", i, h, block.attn_output, block.attn_output_bias, x)
            step.tap("ffn_inp", i, x)
            yield Pause.OPERATION
            h = d.rms_norm(x, block.ffn_norm, self.eps)
            step.tap("ffn_norm", i, h)
            gate_up = d.linear(h, block.ffn_gate_up)  # (T, n_embd) -> (T, 2 n_ff)
            if step.watches("ffn_gate"):
                gate, up = d.split(gate_up, n_ff, n_ff)  # -> (T, n_ff), (T, n_ff)
                step.tap("ffn_gate", i, gate)
                step.tap("ffn_up", i, up)
            yield Pause.OPERATION
            h = d.swiglu(gate_up)  # -> (T, n_ff)
            step.tap("ffn_swiglu", i, h)
            x = add_linear(step, "ffn_out", i, h, block.ffn_down, None, x)  # (T, n_ff) -> (T, n_embd)
            step.tap("l_out", i, x)
            yield Pause.LAYER
        x = d.last_rows(x, step)  # (T, n_embd) -> (n_out, n_embd)
        x = d.rms_norm(x, self.output_norm, self.eps)
        step.tap("result_norm", -1, x)
        logits = d.linear(x, self.output)  # (n_out, n_embd) -> (n_out, n_vocab)
        step.tap("result_output", -1, logits)
        return logits

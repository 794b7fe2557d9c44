"""Phi-3 (Abdin et al. 2024): RMSNorm, RoPE or LongRoPE, SwiGLU, pre-norm; queries, keys and values in one matrix.

Its gate and up matrices are one as well. The sliding window of the file is not applied, as in llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from m0_worker.adapters.base import ModelAdapter, add_linear
from m0_worker.devices.interface import CacheShape, Pause

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    from numpy.typing import NDArray

    from m0_worker.adapters.base import Loader, Options
    from m0_worker.devices.interface import Array, Step, Table, Vector, Weight


@dataclass(frozen=True, slots=True)
class Block:
    """Weights of one layer."""

    attn_norm: Vector  # (n_embd,)
    attn_qkv: Weight  # ((n_head + 2 n_kv_head) head_dim, n_embd)
    attn_output: Weight  # (n_embd, n_head head_dim)
    ffn_norm: Vector  # (n_embd,)
    ffn_gate_up: Weight  # (2 n_ff, n_embd)
    ffn_down: Weight  # (n_embd, n_ff)


@dataclass(frozen=True)
class Phi3(ModelAdapter):
    """A Phi-3 model."""

    architectures: ClassVar[tuple[str, ...]] = ("phi3",)

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
        rope = load.rope("neox", head_dim, divisors=_divisors(load, options.n_ctx, head_dim))

        def block(i: int) -> Block:
            return Block(
                attn_norm=load.vector((f"blk.{i}.attn_norm.weight", n_embd)),
                attn_qkv=load.weight(n_embd, (f"blk.{i}.attn_qkv.weight", n_q + 2 * n_kv)),
                attn_output=load.weight(n_q, (f"blk.{i}.attn_output.weight", n_embd)),
                ffn_norm=load.vector((f"blk.{i}.ffn_norm.weight", n_embd)),
                ffn_gate_up=load.weight(n_embd, (f"blk.{i}.ffn_up.weight", 2 * n_ff)),
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
            scale=head_dim**-0.5,
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
        n_q, n_kv = self.n_head * head_dim, self.cache.n_kv_head * head_dim
        x = d.embed(self.token_embd, step)  # (T,) -> (T, n_embd)
        step.tap("embd", -1, x)
        for i, block in enumerate(self.blocks):
            h = d.rms_norm(x, block.attn_norm, self.eps)
            step.tap("attn_norm", i, h)
            qkv = d.linear(h, block.attn_qkv)  # (T, n_embd) -> (T, n_q + 2 n_kv)
            step.tap("wqkv", i, qkv)
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
            x = add_linear(step, "attn_out", i, h, block.attn_output, None, x)  # (T, n_q) -> (T, n_embd)
            step.tap("ffn_inp", i, x)
            yield Pause.OPERATION
            h = d.rms_norm(x, block.ffn_norm, self.eps)
            step.tap("ffn_norm", i, h)
            gate_up = d.linear(h, block.ffn_gate_up)  # (T, n_embd) -> (T, 2 n_ff)
            step.tap("ffn_up", i, gate_up)
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


def _divisors(load: Loader, n_ctx: int, head_dim: int) -> NDArray[np.float32] | None:
    """LongRoPE's factors by pair (Ding et al. 2024), or None if the file has none.

    llama.cpp takes the long ones when the allocated context, padded to 256 positions, exceeds the original one.
    """
    if not load.has("rope_factors_long.weight"):
        return None
    n_pairs = load.count("rope.dimension_count", head_dim) // 2
    long = load.host_vector("rope_factors_long.weight", n_pairs)
    short = load.host_vector("rope_factors_short.weight", n_pairs)
    original = load.count("rope.scaling.original_context_length", load.count("context_length"))
    return long if -(-n_ctx // 256) * 256 > original else short

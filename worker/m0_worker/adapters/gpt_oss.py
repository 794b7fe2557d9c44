"""gpt-oss (OpenAI 2025): RMSNorm, grouped-query attention with sinks, RoPE with YaRN, a mixture of experts, biases.

Every second layer, starting with the first, looks back through a sliding window only.
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

    window: int | None
    attn_norm: Vector  # (n_embd,)
    attn_qkv: Weight  # ((n_head + 2 n_kv_head) head_dim, n_embd)
    attn_qkv_bias: Vector
    attn_sinks: Vector  # (n_head,)
    attn_output: Weight  # (n_embd, n_head head_dim)
    attn_output_bias: Vector
    ffn_norm: Vector  # (n_embd,)
    ffn_gate_inp: Weight  # (n_expert, n_embd), the router
    ffn_gate_inp_bias: Vector
    ffn_gate_up: Weight  # (n_expert, 2 n_ff, n_embd)
    ffn_gate_up_bias: Vector  # (n_expert, 2 n_ff)
    ffn_down: Weight  # (n_expert, n_embd, n_ff)
    ffn_down_bias: Vector  # (n_expert, n_embd)


@dataclass(frozen=True)
class GptOss(ModelAdapter):
    """A gpt-oss model."""

    architectures: ClassVar[tuple[str, ...]] = ("gpt-oss",)

    cache: CacheShape
    n_vocab: int
    n_head: int
    n_expert_used: int
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
        n_ff = load.count("expert_feed_forward_length")
        n_expert = load.count("expert_count", at_most=4096)
        n_expert_used = load.count("expert_used_count", at_most=n_expert)
        n_head, n_kv_head, head_dim = load.heads(n_embd)
        n_q, n_kv = n_head * head_dim, n_kv_head * head_dim
        n_vocab = load.rows("token_embd.weight")
        rope = load.rope("neox", head_dim, rounded=options.yarn_rounding)
        window = load.count("attention.sliding_window")
        pattern = load.count("attention.sliding_window_pattern", 2)

        def block(i: int) -> Block:
            qkv = [(f"blk.{i}.attn_{part}", n) for part, n in (("q", n_q), ("k", n_kv), ("v", n_kv))]
            up = [(f"blk.{i}.ffn_{part}_exps", n_ff) for part in ("gate", "up")]
            return Block(
                window=window if i % pattern < pattern - 1 else None,
                attn_norm=load.vector((f"blk.{i}.attn_norm.weight", n_embd)),
                attn_qkv=load.weight(n_embd, *((f"{name}.weight", n) for name, n in qkv)),
                attn_qkv_bias=load.vector(*((f"{name}.bias", n) for name, n in qkv)),
                attn_sinks=load.vector((f"blk.{i}.attn_sinks.weight", n_head)),
                attn_output=load.weight(n_q, (f"blk.{i}.attn_output.weight", n_embd)),
                attn_output_bias=load.vector((f"blk.{i}.attn_output.bias", n_embd)),
                ffn_norm=load.vector((f"blk.{i}.post_attention_norm.weight", n_embd)),
                ffn_gate_inp=load.weight(n_embd, (f"blk.{i}.ffn_gate_inp.weight", n_expert)),
                ffn_gate_inp_bias=load.vector((f"blk.{i}.ffn_gate_inp.bias", n_expert)),
                ffn_gate_up=load.weight(n_embd, *((f"{name}.weight", n) for name, n in up), n_experts=n_expert),
                ffn_gate_up_bias=load.vector(*((f"{name}.bias", n) for name, n in up), n_experts=n_expert),
                ffn_down=load.weight(n_ff, (f"blk.{i}.ffn_down_exps.weight", n_embd), n_experts=n_expert),
                ffn_down_bias=load.vector((f"blk.{i}.ffn_down_exps.bias", n_embd), n_experts=n_expert),
            )

        token_embd = load.weight(n_embd, ("token_embd.weight", n_vocab))
        return cls(
            cache=CacheShape(n_layer, n_kv_head, head_dim, options.kv_dtype),
            n_vocab=n_vocab,
            n_head=n_head,
            n_expert_used=n_expert_used,
            eps=load.number("attention.layer_norm_rms_epsilon"),
            scale=head_dim**-0.5,
            rope=load.rotation(rope),
            token_embd=token_embd,
            blocks=tuple(block(i) for i in range(n_layer)),
            output_norm=load.vector(("output_norm.weight", n_embd)),
            output=load.weight(n_embd, ("output.weight", n_vocab)),
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
            # -> (T, n_q)
            h = d.attend(q, k, v, step, i, scale=self.scale, window=block.window, sinks=block.attn_sinks)
            step.tap("kqv_out", i, h)
            yield Pause.OPERATION
            # (T, n_q) -> (T, n_embd)
            x = add_linear(step, "attn_out", i, h, block.attn_output, block.attn_output_bias, x)
            step.tap("ffn_inp", i, x)
            yield Pause.OPERATION
            h = d.rms_norm(x, block.ffn_norm, self.eps)
            step.tap("attn_post_norm", i, h)
            router = d.linear(h, block.ffn_gate_inp, block.ffn_gate_inp_bias)  # (T, n_embd) -> (T, n_expert)
            step.tap("ffn_moe_probs", i, router)
            yield Pause.OPERATION
            ids, weights = d.top_experts(router, self.n_expert_used)  # -> (T, n_expert_used), (T, n_expert_used)
            step.tap("ffn_moe_topk", i, ids)
            step.tap("ffn_moe_weights_softmax", i, weights)
            x = self._add_experts(step, i, block, h, ids, weights, x)
            step.tap("l_out", i, x)
            yield Pause.LAYER
        x = d.last_rows(x, step)  # (T, n_embd) -> (n_out, n_embd)
        x = d.rms_norm(x, self.output_norm, self.eps)
        step.tap("result_norm", -1, x)
        logits = d.linear(x, self.output)  # (n_out, n_embd) -> (n_out, n_vocab)
        step.tap("result_output", -1, logits)
        return logits

    @staticmethod
    def _add_experts(step: Step, layer: int, block: Block, h: Array, ids: Array, weights: Array, x: Array) -> Array:
        """The residual stream plus the experts' sum, fused unless somebody watches the sum."""
        d = step.device
        watched = step.watches("ffn_moe_out")
        y = d.experts(
            h,
            ids,
            weights,
            block.ffn_gate_up,
            block.ffn_gate_up_bias,
            block.ffn_down,
            block.ffn_down_bias,
            residual=None if watched else x,
        )
        if not watched:
            return y
        step.tap("ffn_moe_out", layer, y)
        return d.add(x, y)

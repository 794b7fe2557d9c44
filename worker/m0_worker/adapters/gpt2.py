"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, multi-head attention, GELU, biases (M0-W-1215)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from m0_worker.adapters.base import ModelAdapter, add_linear
from m0_worker.devices.interface import CacheShape, Pause

if TYPE_CHECKING:
    from collections.abc import Generator

    from m0_worker.adapters.base import Loader, Options
    from m0_worker.devices.interface import Array, Step, Vector, Weight


@dataclass(frozen=True, slots=True)
class Block:
    """Weights of one layer."""

    attn_norm: Vector  # (n_embd,)
    attn_norm_bias: Vector
    attn_qkv: Weight  # (3 n_embd, n_embd)
    attn_qkv_bias: Vector
    attn_output: Weight  # (n_embd, n_embd)
    attn_output_bias: Vector
    ffn_norm: Vector  # (n_embd,)
    ffn_norm_bias: Vector
    ffn_up: Weight  # (n_ff, n_embd)
    ffn_up_bias: Vector
    ffn_down: Weight  # (n_embd, n_ff)
    ffn_down_bias: Vector


@dataclass(frozen=True)
class Gpt2(ModelAdapter):
    """A GPT-2 model."""

    architectures: ClassVar[tuple[str, ...]] = ("gpt2",)

    cache: CacheShape
    n_vocab: int
    n_head: int
    n_embd: int
    eps: float
    scale: float
    gelu_table: bool
    token_embd: Weight  # (n_vocab, n_embd)
    position_embd: Weight  # (n_ctx, n_embd)
    blocks: tuple[Block, ...]
    output_norm: Vector  # (n_embd,)
    output_norm_bias: Vector
    output: Weight  # (n_vocab, n_embd)

    @classmethod
    def load(cls, load: Loader, options: Options) -> Self:
        """See the base class."""
        n_embd = load.count("embedding_length")
        n_layer = load.count("block_count", at_most=4096)
        n_ff = load.count("feed_forward_length")
        n_head, n_kv_head, head_dim = load.heads(n_embd)
        if n_kv_head != n_head or n_head * head_dim != n_embd:
            raise load.fail("bad-heads", f"{n_head} heads of {head_dim} do not make an embedding of {n_embd}")
        n_vocab = load.rows("token_embd.weight")

        def block(i: int) -> Block:
            return Block(
                attn_norm=load.vector((f"blk.{i}.attn_norm.weight", n_embd)),
                attn_norm_bias=load.vector((f"blk.{i}.attn_norm.bias", n_embd)),
                attn_qkv=load.weight(n_embd, (f"blk.{i}.attn_qkv.weight", 3 * n_embd)),
                attn_qkv_bias=load.vector((f"blk.{i}.attn_qkv.bias", 3 * n_embd)),
                attn_output=load.weight(n_embd, (f"blk.{i}.attn_output.weight", n_embd)),
                attn_output_bias=load.vector((f"blk.{i}.attn_output.bias", n_embd)),
                ffn_norm=load.vector((f"blk.{i}.ffn_norm.weight", n_embd)),
                ffn_norm_bias=load.vector((f"blk.{i}.ffn_norm.bias", n_embd)),
                ffn_up=load.weight(n_embd, (f"blk.{i}.ffn_up.weight", n_ff)),
                ffn_up_bias=load.vector((f"blk.{i}.ffn_up.bias", n_ff)),
                ffn_down=load.weight(n_ff, (f"blk.{i}.ffn_down.weight", n_embd)),
                ffn_down_bias=load.vector((f"blk.{i}.ffn_down.bias", n_embd)),
            )

        token_embd = load.weight(n_embd, ("token_embd.weight", n_vocab))
        tied = not load.has("output.weight")
        return cls(
            cache=CacheShape(n_layer, n_kv_head, head_dim, options.kv_dtype),
            n_vocab=n_vocab,
            n_head=n_head,
            n_embd=n_embd,
            eps=load.number("attention.layer_norm_epsilon"),
            scale=head_dim**-0.5,
            gelu_table=options.gelu_table,
            token_embd=token_embd,
            position_embd=load.weight(n_embd, ("position_embd.weight", load.count("context_length"))),
            blocks=tuple(block(i) for i in range(n_layer)),
            output_norm=load.vector(("output_norm.weight", n_embd)),
            output_norm_bias=load.vector(("output_norm.bias", n_embd)),
            output=token_embd if tied else load.weight(n_embd, ("output.weight", n_vocab)),
        )

    def forward(self, step: Step) -> Generator[Pause, None, Array]:
        """See the base class."""
        d = step.device
        n_embd = self.n_embd
        x = d.embed(self.token_embd, step)  # (T,) -> (T, n_embd)
        step.tap("embd", -1, x)
        x = d.add(x, d.embed_positions(self.position_embd, step))
        step.tap("inpL", -1, x)
        for i, block in enumerate(self.blocks):
            h = d.layer_norm(x, block.attn_norm, block.attn_norm_bias, self.eps)
            step.tap("attn_norm", i, h)
            qkv = d.linear(h, block.attn_qkv, block.attn_qkv_bias)  # (T, n_embd) -> (T, 3 n_embd)
            step.tap("wqkv_b", i, qkv)
            q, k, v = d.split(qkv, n_embd, n_embd, n_embd)  # -> (T, n_embd), (T, n_embd), (T, n_embd)
            step.tap("Qcur", i, q)
            step.tap("Kcur", i, k)
            step.tap("Vcur", i, v)
            yield Pause.OPERATION
            h = d.attend(q, k, v, step, i, scale=self.scale)  # -> (T, n_embd)
            step.tap("kqv_out", i, h)
            yield Pause.OPERATION
            # (T, n_embd) -> (T, n_embd)
            x = add_linear(step, "attn_out", i, h, block.attn_output, block.attn_output_bias, x)
            step.tap("ffn_inp", i, x)
            yield Pause.OPERATION
            h = d.layer_norm(x, block.ffn_norm, block.ffn_norm_bias, self.eps)
            step.tap("ffn_norm", i, h)
            h = d.linear(h, block.ffn_up, block.ffn_up_bias)  # (T, n_embd) -> (T, n_ff)
            step.tap("ffn_up_b", i, h)
            yield Pause.OPERATION
            h = d.gelu(h, table=self.gelu_table)
            step.tap("ffn_gelu", i, h)
            # (T, n_ff) -> (T, n_embd)
            x = add_linear(step, "ffn_out", i, h, block.ffn_down, block.ffn_down_bias, x)
            step.tap("l_out", i, x)
            yield Pause.LAYER
        x = d.last_rows(x, step)  # (T, n_embd) -> (n_out, n_embd)
        x = d.layer_norm(x, self.output_norm, self.output_norm_bias, self.eps)
        step.tap("result_norm", -1, x)
        logits = d.linear(x, self.output)  # (n_out, n_embd) -> (n_out, n_vocab)
        step.tap("result_output", -1, logits)
        return logits

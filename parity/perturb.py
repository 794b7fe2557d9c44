"""Perturbed models: a GGUF with one thing changed, for the worker alone, so that the tools must find and place it.

Each entry says what is changed, in which miniature, where the first divergence must be placed, and which words the
diagnosis must contain. They are the mistakes that engines really make, and the ways in which files really break.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from parity import change

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.shapes import Architecture
    from parity.change import Patch
    from parity.names import Place


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One change; ``place`` and ``words`` are what the tools must answer."""

    name: str
    architecture: Architecture
    place: Place
    words: str
    apply: Callable[[Patch], None]
    quant: str = "F32"
    shape: dict[str, Any] = field(default_factory=dict)
    """Options of the miniature."""
    worker: dict[str, Any] = field(default_factory=dict)
    """Options of the worker instead of a change of the file."""
    position: int | None = None
    """The first position that may differ, where that is the point."""


_P = Perturbation
_LONG: Final = {"long_rope": 512, "context": 4096}
PERTURBATIONS: Final[dict[str, Perturbation]] = {
    p.name: p
    for p in (
        # llama
        _P(
            "q-other-pairing",
            "llama",
            (0, "Qpre"),
            "RoPE pairing",
            partial(change.other_pairing, "blk.0.attn_q.weight", 4),
        ),
        _P(
            "k-other-pairing",
            "llama",
            (1, "Kpre"),
            "RoPE pairing",
            partial(change.other_pairing, "blk.1.attn_k.weight", 2),
        ),
        _P(
            "kv-heads-swapped",
            "llama",
            (0, "Kpre"),
            "swapped heads",
            partial(change.swap_spans, "blk.0.attn_k.weight", slice(0, 64), slice(64, 128)),
        ),
        _P(
            "epsilon",
            "llama",
            (0, "attn_norm"),
            "epsilon",
            partial(change.key, "llama.attention.layer_norm_rms_epsilon", 1e-6),
        ),
        _P(
            "norm-weight-one-feature",
            "llama",
            (1, "attn_norm"),
            "features 7 (1 of 256): the norm's weight",
            partial(change.one_feature, "blk.1.attn_norm.weight", 7, 1.5),
        ),
        _P(
            "norms-swapped",
            "llama",
            (0, "attn_norm"),
            "norm's weight",
            partial(change.swap_tensors, "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"),
        ),
        _P(
            "output-norm-rolled",
            "llama",
            (-1, "result_norm"),
            "norm's weight",
            partial(change.roll, "output_norm.weight", 1),
        ),
        _P(
            "rope-base",
            "llama",
            (0, "Qcur"),
            "equal at position 0, different later",
            partial(change.key, "llama.rope.freq_base", 500000.0),
        ),
        _P(
            "rope-freqs-dropped",
            "llama",
            (0, "Qcur"),
            "LongRoPE factors",
            partial(change.remove, ("rope_freqs.weight",)),
            shape={"rope_freqs": True},
        ),
        _P(
            "value-row-dropped",
            "llama",
            (1, "Vcur"),
            "features 5 (1 of 128) are zero",
            partial(change.row, "blk.1.attn_v.weight", 5),
        ),
        _P(
            "attention-scale",
            "llama",
            (0, "kqv_out"),
            "scale, mask or softmax",
            partial(change.new_key, "llama.attention.scale", 0.1),
        ),
        _P(
            "output-projection-transposed",
            "llama",
            (0, "ffn_inp"),
            "transposed",
            partial(change.transpose, "blk.0.attn_output.weight"),
        ),
        _P(
            "gate-and-up-swapped",
            "llama",
            (1, "ffn_gate"),
            "every feature differs",
            partial(change.swap_tensors, "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"),
        ),
        _P(
            "down-column",
            "llama",
            (0, "ffn_out"),
            "one input column",
            partial(change.one_feature, "blk.0.ffn_down.weight", 3, -1.0),
        ),
        _P("layers-swapped", "llama", (0, "attn_norm"), "norm's weight", change.swap_layers),
        _P(
            "vocabulary-rows-swapped",
            "llama",
            (-1, "embd"),
            "wrong place",
            partial(change.swap, "token_embd.weight", 101, 102),
        ),
        _P(
            "output-rows-swapped",
            "llama",
            (-1, "result_output"),
            "token ids 40, 41 (2 of 320",
            partial(change.swap, "output.weight", 40, 41),
        ),
        _P(
            "logits-scaled",
            "llama",
            (-1, "result_output"),
            "factor 1.010",
            partial(change.scale, "output.weight", 1.01),
        ),
        # qwen2
        _P(
            "rope-pairing",
            "qwen2",
            (2, "Qpre"),
            "RoPE pairing",
            change.sequence(
                partial(change.other_pairing, "blk.2.attn_q.weight", 4),
                partial(change.other_pairing, "blk.2.attn_q.bias", 4),
                partial(change.other_pairing, "blk.2.attn_k.weight", 2),
                partial(change.other_pairing, "blk.2.attn_k.bias", 2),
            ),
            shape={"layers": 5},
        ),
        _P("q-bias-dropped", "qwen2", (0, "Qpre"), "a bias is missing", partial(change.zero, "blk.0.attn_q.bias")),
        _P("k-bias-dropped", "qwen2", (1, "Kpre"), "a bias is missing", partial(change.zero, "blk.1.attn_k.bias")),
        _P("v-bias-dropped", "qwen2", (0, "Vcur"), "a bias is missing", partial(change.zero, "blk.0.attn_v.bias")),
        _P(
            "tied-head-vocabulary",
            "qwen2",
            (-1, "embd"),
            "wrong place",
            partial(change.swap, "token_embd.weight", 101, 102),
            shape={"tied": True},
        ),
        _P(
            "q4_0-block-scale",
            "qwen2",
            (1, "ffn_out"),
            "features 9 (1 of 256)",
            partial(change.block_scale, "blk.1.ffn_down.weight", 0, 9),
            quant="Q4_0",
        ),
        _P(
            "q4_0-nibble-order",
            "qwen2",
            (0, "Qpre"),
            "every feature differs",
            partial(change.nibble_order, "blk.0.attn_q.weight"),
            quant="Q4_0",
        ),
        _P(
            "q8_0-block-scale",
            "qwen2",
            (0, "Vcur"),
            "features 2 (1 of 128)",
            partial(change.block_scale, "blk.0.attn_v.weight", 0, 2),
            quant="Q8_0",
        ),
        _P(
            "q4_k-block-scale",
            "qwen2",
            (0, "ffn_gate"),
            "features 11 (1 of 512)",
            partial(change.block_scale, "blk.0.ffn_gate.weight", 0, 11),
            quant="Q4_K_M",
        ),
        _P(
            "q4_k-block-minimum",
            "qwen2",
            (0, "Qpre"),
            "features 3 (1 of 256)",
            partial(change.block_scale, "blk.0.attn_q.weight", 2, 3),
            quant="Q4_K_M",
        ),
        _P(
            "q6_k-block-scale",
            "qwen2",
            (-1, "result_output"),
            "token ids 77 (1 of 320",
            partial(change.block_scale, "output.weight", 208, 77),
            quant="Q4_K_M",
        ),
        # phi3
        _P(
            "k-and-v-swapped",
            "phi3",
            (0, "Kpre"),
            "every feature differs",
            partial(change.swap_spans, "blk.0.attn_qkv.weight", slice(256, 384), slice(384, 512)),
        ),
        _P(
            "up-before-gate",
            "phi3",
            (0, "ffn_up"),
            "swapped parts",
            partial(change.swap_spans, "blk.0.ffn_up.weight", slice(0, 512), slice(512, 1024)),
        ),
        _P(
            "longrope-factors-dropped",
            "phi3",
            (0, "Qcur"),
            "LongRoPE factors",
            partial(change.remove, ("rope_factors_long.weight", "rope_factors_short.weight")),
            shape=_LONG,
        ),
        _P(
            "longrope-long-instead-of-short",
            "phi3",
            (0, "Qcur"),
            "LongRoPE factors",
            partial(change.key, "phi3.rope.scaling.original_context_length", 256),
            shape=_LONG,
        ),
        _P(
            "longrope-magnitude",
            "phi3",
            (0, "Qcur"),
            "magnitude factor",
            partial(change.key, "phi3.rope.scaling.attn_factor", 1.0),
            shape=_LONG,
        ),
        _P(
            "rotated-features",
            "phi3",
            (0, "Qcur"),
            "number of rotated features",
            partial(change.key, "phi3.rope.dimension_count", 64),
            shape={"rope_dim": 48},
        ),
        # gpt2
        _P(
            "positions-shifted",
            "gpt2",
            (-1, "inpL"),
            "positions are shifted by 1",
            partial(change.roll, "position_embd.weight", -1),
        ),
        _P(
            "norm-bias-dropped",
            "gpt2",
            (0, "attn_norm"),
            "a norm bias differs",
            partial(change.zero, "blk.0.attn_norm.bias"),
        ),
        _P(
            "layer-norm-epsilon",
            "gpt2",
            (0, "attn_norm"),
            "epsilon",
            partial(change.key, "gpt2.attention.layer_norm_epsilon", 1e-12),
        ),
        _P("fused-bias-dropped", "gpt2", (0, "Vcur"), "a bias is missing", partial(change.zero, "blk.0.attn_qkv.bias")),
        _P(
            "projection-bias-dropped",
            "gpt2",
            (1, "ffn_inp"),
            "a bias is missing",
            partial(change.zero, "blk.1.attn_output.bias"),
        ),
        _P("up-bias-dropped", "gpt2", (1, "ffn_up_b"), "a bias is missing", partial(change.zero, "blk.1.ffn_up.bias")),
        _P(
            "down-bias-dropped",
            "gpt2",
            (0, "ffn_out"),
            "a bias is missing",
            partial(change.zero, "blk.0.ffn_down.bias"),
        ),
        # gpt-oss
        _P("sinks-dropped", "gpt-oss", (0, "kqv_out"), "sinks", partial(change.fill, "blk.0.attn_sinks.weight", -1e30)),
        _P("sinks-swapped", "gpt-oss", (1, "kqv_out"), "sinks", partial(change.swap, "blk.1.attn_sinks.weight", 0, 3)),
        _P(
            "window-one-longer",
            "gpt-oss",
            (0, "kqv_out"),
            "equal up to position 15",
            partial(change.key, "gpt-oss.attention.sliding_window", 17),
            position=16,
        ),
        _P(
            "window-one-shorter",
            "gpt-oss",
            (0, "kqv_out"),
            "equal up to position 14",
            partial(change.key, "gpt-oss.attention.sliding_window", 15),
            position=15,
        ),
        _P("yarn-unrounded", "gpt-oss", (0, "Qcur"), "YaRN rounding", change.nothing, worker={"yarn_rounding": False}),
        _P(
            "yarn-factor",
            "gpt-oss",
            (0, "Qcur"),
            "magnitude factor",
            partial(change.key, "gpt-oss.rope.scaling.factor", 16.0),
        ),
        _P(
            "yarn-context",
            "gpt-oss",
            (0, "Qcur"),
            "YaRN rounding",
            partial(change.key, "gpt-oss.rope.scaling.original_context_length", 4096),
        ),
        _P(
            "experts-swapped",
            "gpt-oss",
            (1, "ffn_out"),
            "chose expert 2 and 5",
            partial(change.swap, "blk.1.ffn_down_exps.weight", 2, 5),
        ),
        _P(
            "expert-bias-dropped",
            "gpt-oss",
            (0, "ffn_out"),
            "chose expert 3",
            partial(change.row, "blk.0.ffn_down_exps.bias", 3),
        ),
        _P(
            "router-bias-dropped",
            "gpt-oss",
            (0, "ffn_moe_probs"),
            "a bias is missing",
            partial(change.zero, "blk.0.ffn_gate_inp.bias"),
        ),
        _P(
            "router-rows-swapped",
            "gpt-oss",
            (1, "ffn_moe_probs"),
            "permuted",
            change.sequence(
                partial(change.swap, "blk.1.ffn_gate_inp.weight", 0, 1),
                partial(change.swap, "blk.1.ffn_gate_inp.bias", 0, 1),
            ),
        ),
        _P(
            "one-expert-fewer",
            "gpt-oss",
            (0, "ffn_moe_topk"),
            "another width: 3 instead of 4",
            partial(change.key, "gpt-oss.expert_used_count", 3),
        ),
        _P(
            "mxfp4-block-exponent",
            "gpt-oss",
            (0, "ffn_out"),
            "chose expert 4",
            partial(change.block_exponent, "blk.0.ffn_down_exps.weight", 4 * 256 + 8),
            quant="MXFP4",
        ),
    )
}
"""All perturbations by name."""

"""Perturbations of llama miniatures: projections, heads, norms, rotation, layers, vocabulary."""

from __future__ import annotations

from functools import partial
from typing import Final

from m0_parity import change
from m0_parity.perturbed.base import Perturbation

ALL: Final = (
    Perturbation(
        "q-other-pairing",
        "llama",
        (0, "Qpre"),
        "RoPE pairing",
        partial(change.other_pairing, "blk.0.attn_q.weight", 4),
    ),
    Perturbation(
        "k-other-pairing",
        "llama",
        (1, "Kpre"),
        "RoPE pairing",
        partial(change.other_pairing, "blk.1.attn_k.weight", 2),
    ),
    Perturbation(
        "kv-heads-swapped",
        "llama",
        (0, "Kpre"),
        "swapped heads",
        partial(change.swap_spans, "blk.0.attn_k.weight", slice(0, 64), slice(64, 128)),
    ),
    Perturbation(
        "epsilon",
        "llama",
        (0, "attn_norm"),
        "epsilon",
        partial(change.key, "llama.attention.layer_norm_rms_epsilon", 1e-6),
    ),
    Perturbation(
        "norm-weight-one-feature",
        "llama",
        (1, "attn_norm"),
        "features 7 (1 of 256): the norm's weight",
        partial(change.one_feature, "blk.1.attn_norm.weight", 7, 1.5),
    ),
    Perturbation(
        "norms-swapped",
        "llama",
        (0, "attn_norm"),
        "norm's weight",
        partial(change.swap_tensors, "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"),
    ),
    Perturbation(
        "output-norm-rolled",
        "llama",
        (-1, "result_norm"),
        "norm's weight",
        partial(change.roll, "output_norm.weight", 1),
    ),
    Perturbation(
        "rope-base",
        "llama",
        (0, "Qcur"),
        "equal at position 0, different later",
        partial(change.key, "llama.rope.freq_base", 500000.0),
    ),
    Perturbation(
        "rope-freqs-dropped",
        "llama",
        (0, "Qcur"),
        "LongRoPE factors",
        partial(change.remove, ("rope_freqs.weight",)),
        shape={"rope_freqs": True},
    ),
    Perturbation(
        "value-row-dropped",
        "llama",
        (1, "Vcur"),
        "features 5 (1 of 128) are zero",
        partial(change.row, "blk.1.attn_v.weight", 5),
    ),
    Perturbation(
        "attention-scale",
        "llama",
        (0, "kqv_out"),
        "scale, mask or softmax",
        partial(change.new_key, "llama.attention.scale", 0.1),
    ),
    Perturbation(
        "output-projection-transposed",
        "llama",
        (0, "ffn_inp"),
        "transposed",
        partial(change.transpose, "blk.0.attn_output.weight"),
    ),
    Perturbation(
        "gate-and-up-swapped",
        "llama",
        (1, "ffn_gate"),
        "every feature differs",
        partial(change.swap_tensors, "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"),
    ),
    Perturbation(
        "down-column",
        "llama",
        (0, "ffn_out"),
        "one input column",
        partial(change.one_feature, "blk.0.ffn_down.weight", 3, -1.0),
    ),
    Perturbation("layers-swapped", "llama", (0, "attn_norm"), "norm's weight", change.swap_layers),
    Perturbation(
        "vocabulary-rows-swapped",
        "llama",
        (-1, "embd"),
        "wrong place",
        partial(change.swap, "token_embd.weight", 101, 102),
    ),
    Perturbation(
        "output-rows-swapped",
        "llama",
        (-1, "result_output"),
        "token ids 40, 41 (2 of 320",
        partial(change.swap, "output.weight", 40, 41),
    ),
    Perturbation(
        "logits-scaled",
        "llama",
        (-1, "result_output"),
        "factor 1.010",
        partial(change.scale, "output.weight", 1.01),
    ),
)

"""Perturbations of a real model, SmolLM2 135M as Q4_1: 30 layers, massive activations, tied embeddings."""

from __future__ import annotations

from functools import partial
from typing import Final

from m0_parity import change
from m0_parity.perturbed.base import Perturbation


def _planted(name: str, place: tuple[int, str], words: str, apply: change.Change) -> Perturbation:
    return Perturbation(name, "llama", place, words, apply)


ALL: Final = (
    _planted("q-other-pairing", (0, "Qpre"), "RoPE pairing", partial(change.other_pairing, "blk.0.attn_q.weight", 9)),
    _planted("k-other-pairing", (17, "Kpre"), "RoPE pairing", partial(change.other_pairing, "blk.17.attn_k.weight", 3)),
    _planted(
        "kv-heads-swapped",
        (5, "Kpre"),
        "swapped heads",
        partial(change.swap_spans, "blk.5.attn_k.weight", slice(0, 64), slice(64, 128)),
    ),
    _planted(
        "value-row-dropped",
        (29, "Vcur"),
        "features 5 (1 of 192) are zero",
        partial(change.row, "blk.29.attn_v.weight", 5),
    ),
    _planted(
        "epsilon",
        (0, "attn_norm"),
        "epsilon",
        partial(change.key, "llama.attention.layer_norm_rms_epsilon", 1e-6),
    ),
    _planted(
        "norm-weight-one-feature",
        (12, "attn_norm"),
        "features 7 (1 of 576): the norm's weight",
        partial(change.one_feature, "blk.12.attn_norm.weight", 7, 1.01),
    ),
    _planted(
        "norms-swapped",
        (8, "attn_norm"),
        "norm's weight",
        partial(change.swap_tensors, "blk.8.attn_norm.weight", "blk.8.ffn_norm.weight"),
    ),
    _planted("output-norm-rolled", (-1, "result_norm"), "norm's weight", partial(change.roll, "output_norm.weight", 1)),
    _planted(
        "rope-base",
        (0, "Qcur"),
        "equal at position 0, different later",
        partial(change.key, "llama.rope.freq_base", 10000.0),
    ),
    _planted(
        "attention-scale",
        (0, "kqv_out"),
        "scale, mask or softmax",
        partial(change.new_key, "llama.attention.scale", 0.126),
    ),
    _planted(
        "output-projection-transposed",
        (20, "ffn_inp"),
        "transposed",
        partial(change.transpose, "blk.20.attn_output.weight"),
    ),
    _planted(
        "gate-and-up-swapped",
        (3, "ffn_gate"),
        "every feature differs",
        partial(change.swap_tensors, "blk.3.ffn_gate.weight", "blk.3.ffn_up.weight"),
    ),
    _planted(
        "down-column",
        (11, "ffn_out"),
        "one input column",
        partial(change.one_feature, "blk.11.ffn_down.weight", 3, -1.0),
    ),
    _planted("layers-swapped", (0, "attn_norm"), "norm's weight", change.swap_layers),
    _planted(
        "vocabulary-rows-swapped",
        (-1, "embd"),
        "wrong place",
        partial(change.swap, "token_embd.weight", 101, 102),
    ),
    _planted(
        "embedding-block-scale",
        (-1, "embd"),
        "token ids 101 (1 of",
        partial(change.block_scale, "token_embd.weight", 0, 101),
    ),
    _planted(
        "down-block-scale",
        (1, "ffn_out"),
        "features 9 (1 of 576)",
        partial(change.block_scale, "blk.1.ffn_down.weight", 0, 9),
    ),
    _planted(
        "query-block-minimum",
        (15, "Qpre"),
        "features 3 (1 of 576)",
        partial(change.block_scale, "blk.15.attn_q.weight", 2, 3),
    ),
    _planted(
        "up-row-scaled",
        (23, "ffn_up"),
        "features 100 (1 of 1536) (factor 1.001)",
        partial(change.scale_row, "blk.23.ffn_up.weight", 100, 1.001),
    ),
    _planted(
        "one-logit-scaled",
        (-1, "result_output"),
        "token ids 77 (1 of 49152)",
        partial(change.untie, partial(change.scale_row, "output.weight", 77, 1.01)),
    ),
)
"""Twenty mistakes, from a factor in one row to whole layers, in the first, the middle and the last layers."""

"""Perturbations of qwen2 miniatures: biases and single blocks of quantized weights."""

from __future__ import annotations

from functools import partial
from typing import Final

from m0_parity import change
from m0_parity.perturbed.base import Perturbation

ALL: Final = (
    Perturbation(
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
    Perturbation(
        "q-bias-dropped", "qwen2", (0, "Qpre"), "a bias is missing", partial(change.zero, "blk.0.attn_q.bias")
    ),
    Perturbation(
        "k-bias-dropped", "qwen2", (1, "Kpre"), "a bias is missing", partial(change.zero, "blk.1.attn_k.bias")
    ),
    Perturbation(
        "v-bias-dropped", "qwen2", (0, "Vcur"), "a bias is missing", partial(change.zero, "blk.0.attn_v.bias")
    ),
    Perturbation(
        "tied-head-vocabulary",
        "qwen2",
        (-1, "embd"),
        "wrong place",
        partial(change.swap, "token_embd.weight", 101, 102),
        shape={"tied": True},
    ),
    Perturbation(
        "q4_0-block-scale",
        "qwen2",
        (1, "ffn_out"),
        "features 9 (1 of 256)",
        partial(change.block_scale, "blk.1.ffn_down.weight", 0, 9),
        quant="Q4_0",
    ),
    Perturbation(
        "q4_0-nibble-order",
        "qwen2",
        (0, "Qpre"),
        "every feature differs",
        partial(change.nibble_order, "blk.0.attn_q.weight"),
        quant="Q4_0",
    ),
    Perturbation(
        "q8_0-block-scale",
        "qwen2",
        (0, "Vcur"),
        "features 2 (1 of 128)",
        partial(change.block_scale, "blk.0.attn_v.weight", 0, 2),
        quant="Q8_0",
    ),
    Perturbation(
        "q4_k-block-scale",
        "qwen2",
        (0, "ffn_gate"),
        "features 11 (1 of 512)",
        partial(change.block_scale, "blk.0.ffn_gate.weight", 0, 11),
        quant="Q4_K_M",
    ),
    Perturbation(
        "q4_k-block-minimum",
        "qwen2",
        (0, "Qpre"),
        "features 3 (1 of 256)",
        partial(change.block_scale, "blk.0.attn_q.weight", 2, 3),
        quant="Q4_K_M",
    ),
    Perturbation(
        "q6_k-block-scale",
        "qwen2",
        (-1, "result_output"),
        "token ids 77 (1 of 320",
        partial(change.block_scale, "output.weight", 208, 77),
        quant="Q4_K_M",
    ),
)

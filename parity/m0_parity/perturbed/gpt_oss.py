"""Perturbations of gpt-oss miniatures: sinks, windows, YaRN and experts."""

from __future__ import annotations

from functools import partial
from typing import Final

from m0_parity import change
from m0_parity.perturbed.base import Perturbation

ALL: Final = (
    Perturbation(
        "sinks-dropped", "gpt-oss", (0, "kqv_out"), "sinks", partial(change.fill, "blk.0.attn_sinks.weight", -1e30)
    ),
    Perturbation(
        "sinks-swapped", "gpt-oss", (1, "kqv_out"), "sinks", partial(change.swap, "blk.1.attn_sinks.weight", 0, 3)
    ),
    Perturbation(
        "window-one-longer",
        "gpt-oss",
        (0, "kqv_out"),
        "equal up to position 15",
        partial(change.key, "gpt-oss.attention.sliding_window", 17),
        position=16,
    ),
    Perturbation(
        "window-one-shorter",
        "gpt-oss",
        (0, "kqv_out"),
        "equal up to position 14",
        partial(change.key, "gpt-oss.attention.sliding_window", 15),
        position=15,
    ),
    Perturbation(
        "yarn-unrounded", "gpt-oss", (0, "Qcur"), "YaRN rounding", change.nothing, worker={"yarn_rounding": False}
    ),
    Perturbation(
        "yarn-factor",
        "gpt-oss",
        (0, "Qcur"),
        "magnitude factor",
        partial(change.key, "gpt-oss.rope.scaling.factor", 16.0),
    ),
    Perturbation(
        "yarn-context",
        "gpt-oss",
        (0, "Qcur"),
        "YaRN rounding",
        partial(change.key, "gpt-oss.rope.scaling.original_context_length", 4096),
    ),
    Perturbation(
        "experts-swapped",
        "gpt-oss",
        (1, "ffn_out"),
        "chose expert 2 and 5",
        partial(change.swap, "blk.1.ffn_down_exps.weight", 2, 5),
    ),
    Perturbation(
        "expert-bias-dropped",
        "gpt-oss",
        (0, "ffn_out"),
        "chose expert 3",
        partial(change.row, "blk.0.ffn_down_exps.bias", 3),
    ),
    Perturbation(
        "router-bias-dropped",
        "gpt-oss",
        (0, "ffn_moe_probs"),
        "a bias is missing",
        partial(change.zero, "blk.0.ffn_gate_inp.bias"),
    ),
    Perturbation(
        "router-rows-swapped",
        "gpt-oss",
        (1, "ffn_moe_probs"),
        "permuted",
        change.sequence(
            partial(change.swap, "blk.1.ffn_gate_inp.weight", 0, 1),
            partial(change.swap, "blk.1.ffn_gate_inp.bias", 0, 1),
        ),
    ),
    Perturbation(
        "one-expert-fewer",
        "gpt-oss",
        (0, "ffn_moe_topk"),
        "another width: 3 instead of 4",
        partial(change.key, "gpt-oss.expert_used_count", 3),
    ),
    Perturbation(
        "mxfp4-block-exponent",
        "gpt-oss",
        (0, "ffn_out"),
        "chose expert 4",
        partial(change.block_exponent, "blk.0.ffn_down_exps.weight", 4 * 256 + 8),
        quant="MXFP4",
    ),
)

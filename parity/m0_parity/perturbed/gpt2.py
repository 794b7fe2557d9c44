"""Perturbations of gpt2 miniatures: learned positions, biases and LayerNorm."""

from __future__ import annotations

from functools import partial
from typing import Final

from m0_parity import change
from m0_parity.perturbed.base import Perturbation

ALL: Final = (
    Perturbation(
        "positions-shifted",
        "gpt2",
        (-1, "inpL"),
        "positions are shifted by 1",
        partial(change.roll, "position_embd.weight", -1),
    ),
    Perturbation(
        "norm-bias-dropped",
        "gpt2",
        (0, "attn_norm"),
        "a norm bias differs",
        partial(change.zero, "blk.0.attn_norm.bias"),
    ),
    Perturbation(
        "layer-norm-epsilon",
        "gpt2",
        (0, "attn_norm"),
        "epsilon",
        partial(change.key, "gpt2.attention.layer_norm_epsilon", 1e-12),
    ),
    Perturbation(
        "fused-bias-dropped", "gpt2", (0, "Vcur"), "a bias is missing", partial(change.zero, "blk.0.attn_qkv.bias")
    ),
    Perturbation(
        "projection-bias-dropped",
        "gpt2",
        (1, "ffn_inp"),
        "a bias is missing",
        partial(change.zero, "blk.1.attn_output.bias"),
    ),
    Perturbation(
        "up-bias-dropped", "gpt2", (1, "ffn_up_b"), "a bias is missing", partial(change.zero, "blk.1.ffn_up.bias")
    ),
    Perturbation(
        "down-bias-dropped",
        "gpt2",
        (0, "ffn_out"),
        "a bias is missing",
        partial(change.zero, "blk.0.ffn_down.bias"),
    ),
)

"""Perturbations of phi3 miniatures: fused projections and LongRoPE."""

from __future__ import annotations

from functools import partial
from typing import Final

from m0_parity import change
from m0_parity.perturbed.base import Perturbation

_LONG: Final = {"long_rope": 512, "context": 4096}
ALL: Final = (
    Perturbation(
        "k-and-v-swapped",
        "phi3",
        (0, "Kpre"),
        "every feature differs",
        partial(change.swap_spans, "blk.0.attn_qkv.weight", slice(256, 384), slice(384, 512)),
    ),
    Perturbation(
        "up-before-gate",
        "phi3",
        (0, "ffn_up"),
        "swapped parts",
        partial(change.swap_spans, "blk.0.ffn_up.weight", slice(0, 512), slice(512, 1024)),
    ),
    Perturbation(
        "longrope-factors-dropped",
        "phi3",
        (0, "Qcur"),
        "LongRoPE factors",
        partial(change.remove, ("rope_factors_long.weight", "rope_factors_short.weight")),
        shape=_LONG,
    ),
    Perturbation(
        "longrope-long-instead-of-short",
        "phi3",
        (0, "Qcur"),
        "LongRoPE factors",
        partial(change.key, "phi3.rope.scaling.original_context_length", 256),
        shape=_LONG,
    ),
    Perturbation(
        "longrope-magnitude",
        "phi3",
        (0, "Qcur"),
        "magnitude factor",
        partial(change.key, "phi3.rope.scaling.attn_factor", 1.0),
        shape=_LONG,
    ),
    Perturbation(
        "rotated-features",
        "phi3",
        (0, "Qcur"),
        "number of rotated features",
        partial(change.key, "phi3.rope.dimension_count", 64),
        shape={"rope_dim": 48},
    ),
)

"""All read-out probes by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_models.readouts import arithmetic, edits, mistakes, storage
from m0_models.readouts.readout import PRE, Readout

if TYPE_CHECKING:
    from m0_models.layout import Spec
    from m0_models.readouts.arithmetic import Array
    from m0_models.shapes import Architecture

PROMPTS: Final = ("Hello, you", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,")
_SIZES: Final[dict[str, Any]] = {"feed_forward": 256, "context": 256}
_CHANGES: Final[dict[Architecture, dict[str, Any]]] = {
    "llama": _SIZES | {"rope_base": 300.0},
    "qwen2": _SIZES | {"rope_base": 300.0},
    "phi3": _SIZES | {"rope_base": 300.0},
    "gpt2": _SIZES,
    "gpt-oss": {"context": 256, "rope_base": 100.0},
}
_FINE: Final = (
    *("layer-mean", "layer-unbiased", "rms-mean"),
    *("gelu-erf", "gelu-quick", "gelu-relu", "gelu-silu", "gelu-missing"),
    *("epsilon-1e-3", "epsilon-1e-6", "epsilon-1e-12", "experts-clamp", "yarn-unrounded"),
)
"""Mistakes too small for a network in which everything speaks at once: they have read-outs of their own."""
_ALIKE: Final = (
    ("final-norm", "final-norm-weights"),  # the norm itself is a positive factor: the largest logit stays the largest
    ("minimum-missing", "minimum-sign"),  # either leaves only the offset of all weights to be seen
    ("rms-sum", "embedding-scale"),  # both make the blocks small beside the stream, by the same factor
)
STREAMS: Final[tuple[tuple[Architecture, str], ...]] = (
    ("llama", "Q4_0"),
    ("llama", "MXFP4"),
    ("qwen2", "Q4_K_M"),
    ("phi3", "Q4_K_M"),
    ("gpt2", "Q4_0"),
    ("gpt-oss", "MXFP4"),
)
"""Architectures in file recipes that M0 names, each with a long stream of tokens that every engine must say."""
_SWAPS: Final = {"llama-mxfp4": ("gate-and-up-exchanged",), "gpt-oss-mxfp4": ("experts-gate-and-up",)}
"""Mistakes of layout that a stream of MXFP4 blocks names."""
STREAM: Final = 32
_TINY: Final = 3e-3
"""Size of the stream where the epsilon of a norm is to show: its mean square is near 1e-5."""


def _tiny(spec: Spec, values: Array) -> Array:
    """A stream so small that a norm's epsilon counts, in every layer."""
    small = spec.role in {"embedding", "position"} or spec.name.endswith(
        (
            "attn_output.weight",
            "attn_output.bias",
            "ffn_down.weight",
            "ffn_down.bias",
            "down_exps.weight",
            "down_exps.bias",
        )
    )
    return values * _TINY if small else values


def _leaning(spec: Spec, values: Array) -> Array:
    """A stream with a mean as large as its deviation: a norm that forgets the mean is far off."""
    return values + 1.0 if spec.role == "embedding" else values


def _gelu(spec: Spec, values: Array) -> Array:
    """Inputs of the activation from its biases alone, where its forms differ most; an output that drowns the rest."""
    if spec.name.endswith("ffn_up.weight") or spec.name.endswith("attn_output.weight"):
        return np.zeros_like(values)
    if spec.name.endswith("ffn_up.bias"):
        return np.linspace(-3.2, -2.0, len(values))
    if spec.name.endswith("ffn_down.weight"):
        return values * 300.0
    return values


def _loud_experts(spec: Spec, values: Array) -> Array:
    """Gates and up sides well beyond the clamp."""
    return values * 6.0 if spec.name.endswith(("gate_exps.weight", "up_exps.weight")) else values


@cache
def readouts() -> dict[str, Readout]:
    """Every read-out probe."""
    made = [_coarse(architecture) for architecture in PRE]
    made += [_norms(architecture) for architecture in PRE]
    made += [
        Readout(
            "gpt2-layernorm",
            "gpt2",
            "mean and deviation of LayerNorm",
            ("layer-mean", "layer-unbiased"),
            PROMPTS[:1],
            changes={**_CHANGES["gpt2"], "width": 64, "heads": 4, "kv_heads": 4, "head_dim": 16},
            weights=_leaning,
            least=1e-3,
            files={"layer-unbiased": edits.unbiased},
        ),
        Readout(
            "gpt2-gelu",
            "gpt2",
            "the form of GELU",
            ("gelu-erf", "gelu-quick", "gelu-relu", "gelu-silu", "gelu-missing"),
            PROMPTS[:1],
            changes=_CHANGES["gpt2"],
            weights=_gelu,
            least=5e-3,
            files={
                "gelu-erf": edits.activated(arithmetic.gelu_erf),
                "gelu-quick": edits.activated(arithmetic.gelu_quick),
                "gelu-relu": edits.activated(arithmetic.relu),
                "gelu-silu": edits.activated(arithmetic.silu),
                "gelu-missing": edits.activated(lambda x: x),
            },
        ),
        Readout(
            "gpt-oss-clamp",
            "gpt-oss",
            "the limits of an expert's gate and up side",
            ("experts-clamp", "experts-plain-swiglu", "experts-alpha", "experts-up-plus-one"),
            PROMPTS[:1],
            changes=_CHANGES["gpt-oss"],
            weights=_loud_experts,
        ),
        Readout(
            "gpt-oss-yarn",
            "gpt-oss",
            "the borders of YaRN",
            ("yarn-unrounded", "yarn-ignored", "yarn-reversed", "yarn-everywhere"),
            PROMPTS[1:],
            changes=_CHANGES["gpt-oss"],
            least=1e-3,
        ),
        *(
            Readout(
                f"{a}-mean",
                a,
                "no mean is subtracted in RMSNorm",
                ("rms-mean",),
                PROMPTS[:1],
                changes=_CHANGES[a],
                weights=_leaning,
            )
            for a in mistakes.ROPE
        ),
    ]
    made += [_stored(kind) for kind in storage.TYPES]
    made += [_stream(architecture, quant) for architecture, quant in STREAMS]
    return {readout.name: readout for readout in made}


def _coarse(architecture: Architecture) -> Readout:
    known = mistakes.of(architecture)
    return Readout(
        f"{architecture}-forward",
        architecture,
        "one pass through all of it",
        tuple(name for name in known if name not in _FINE),
        PROMPTS,
        steps=3,
        also=tuple(name for name in known if name in _FINE),
        changes=_CHANGES[architecture],
        alike=_ALIKE,
    )


def _norms(architecture: Architecture) -> Readout:
    names = tuple(name for name in mistakes.of(architecture) if name.startswith("epsilon"))
    changes = {**_CHANGES[architecture], "epsilon": 1e-5}
    return Readout(
        f"{architecture}-epsilon",
        architecture,
        "the epsilon of norms",
        names,
        PROMPTS[:1],
        changes=changes,
        weights=_tiny,
    )


def _stored(kind: str) -> Readout:
    changes = _CHANGES["llama"] | {"layers": 1}
    return Readout(
        f"stored-{kind.lower()}",
        "llama",
        f"{kind} blocks",
        tuple(storage.of(kind)),
        PROMPTS[:1],
        quant=kind,
        changes=changes,
    )


def _stream(architecture: Architecture, quant: str) -> Readout:
    name = f"{architecture}-{quant.lower()}"
    return Readout(
        f"{name}-stream",
        architecture,
        f"{STREAM} tokens whose right ones stand far above all others",
        _SWAPS.get(name, ()),
        PROMPTS[:1],
        steps=STREAM,
        quant=quant,
        changes=_CHANGES[architecture],
    )

"""The mistakes that read-out probes know by name: what engines get wrong, as another arithmetic or another file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.readouts import arithmetic, edits, masks
from m0_models.readouts.arithmetic import RIGHT, Arithmetic, Array, Integers, Rotation
from m0_models.shapes import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_models.readouts.edits import Edit

ROPE: Final[tuple[Architecture, ...]] = ("llama", "qwen2", "phi3", "gpt-oss")
GROUPED: Final[tuple[Architecture, ...]] = ("llama", "qwen2", "phi3", "gpt-oss")
GATED: Final[tuple[Architecture, ...]] = ("llama", "qwen2", "phi3")
BIASED: Final[tuple[Architecture, ...]] = ("qwen2", "gpt-oss")
GPT2: Final[tuple[Architecture, ...]] = ("gpt2",)
GPT_OSS: Final[tuple[Architecture, ...]] = ("gpt-oss",)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing an engine gets wrong."""

    name: str
    about: str
    """What such an engine does, as a sentence's predicate."""
    architectures: tuple[Architecture, ...]
    how: Arithmetic = RIGHT
    edit: Edit | None = None
    """The file as such an engine takes it, where a right engine with that file makes the same numbers."""


def _turned(**changes: object) -> Arithmetic:
    return replace(RIGHT, rotation=replace(Rotation(), **changes))  # type: ignore[arg-type]  # fields of Rotation, by name


def _arithmetic(**changes: object) -> Arithmetic:
    return replace(RIGHT, **changes)  # type: ignore[arg-type]  # fields of Arithmetic, by name


def _generated(move: Callable[[Integers, int], Integers]) -> Arithmetic:
    """Positions of generated tokens moved: ``move(positions, prompt)``."""

    def positions(count: int, prompt: int) -> Integers:
        places = np.arange(count)
        places[prompt:] = move(places[prompt:], prompt)
        return places

    return replace(RIGHT, positions=positions)


def _layer_without_mean(x: Array, w: Array, b: Array, e: float) -> Array:
    value: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + e) * w + b
    return value


def _layer_unbiased(x: Array, w: Array, b: Array, e: float) -> Array:
    value: Array = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True, ddof=1) + e) * w + b
    return value


def _rms_without_mean(x: Array, w: Array, e: float) -> Array:
    return arithmetic.rms_norm(x - x.mean(-1, keepdims=True), w, e)


def _rms_of_sum(x: Array, w: Array, e: float) -> Array:
    value: Array = x / np.sqrt((x**2).sum(-1, keepdims=True) + e) * w
    return value


def _mean_magnitude(x: Array, w: Array, _e: float) -> Array:
    value: Array = x / np.abs(x).mean(-1, keepdims=True) * w
    return value


def _interleaved(heads: int, groups: int) -> Integers:
    return np.arange(heads) % groups


def _reversed(heads: int, groups: int) -> Integers:
    return (groups - 1) - arithmetic.grouped(heads, groups)


def _softmax_before_choice(scores: Array, count: int) -> tuple[Integers, Array]:
    shares = np.exp(scores - scores.max())
    chosen = np.argsort(-scores, kind="stable")[:count]
    return chosen, (shares / shares.sum())[chosen]


def _equal_shares(scores: Array, count: int) -> tuple[Integers, Array]:
    chosen, _ = arithmetic.experts_chosen(scores, count)
    return chosen, np.full(count, 1 / count)


def _sigmoid_shares(scores: Array, count: int) -> tuple[Integers, Array]:
    chosen, _ = arithmetic.experts_chosen(scores, count)
    return chosen, arithmetic.sigmoid(scores[chosen])


def _unit(**changes: float) -> Arithmetic:
    return _arithmetic(expert_unit=lambda gate, up: arithmetic.clamped_swiglu(gate, up, **changes))


def _identity(x: Array) -> Array:
    return x


_EVERYWHERE: Final = (
    ("attention-residual", "does not add the stream back after attention", _arithmetic(attention_residual=False)),
    ("ffn-residual", "does not add the stream back after the feed-forward block", _arithmetic(ffn_residual=False)),
    ("parallel-blocks", "feeds the feed-forward block what attention read", _arithmetic(parallel=True)),
    ("attention-norm", "leaves out the norm before attention", _arithmetic(attention_norm=False)),
    ("ffn-norm", "leaves out the norm before the feed-forward block", _arithmetic(ffn_norm=False)),
    ("final-norm", "leaves out the last norm", _arithmetic(final_norm=False)),
    ("looks-ahead", "lets a prompt's token see the one after it", _arithmetic(visible=masks.looks_ahead)),
    ("not-itself", "hides a token from itself", _arithmetic(visible=masks.not_itself)),
    ("no-mask", "lets all tokens of a prompt see each other", _arithmetic(visible=masks.prompt_sees_all)),
    ("first-token-lost", "loses the first token's key and value", _arithmetic(visible=masks.first_lost)),
    (
        "prompt-tail-lost",
        "loses the prompt's last key and value when it generates",
        _arithmetic(visible=masks.tail_lost),
    ),
    ("prompt-lost", "forgets the prompt when it generates", _arithmetic(visible=masks.prompt_lost)),
    (
        "own-key-late",
        "stores a generated token's key after attention has read them",
        _arithmetic(visible=masks.own_lost),
    ),
    ("row-before-last", "takes the first token from the prompt's last row but one", _arithmetic(last=2)),
    ("positions-restart", "counts positions of generated tokens from 1 again", _generated(lambda p, n: p - n + 1)),
    ("positions-restart-zero", "counts positions of generated tokens from 0 again", _generated(lambda p, n: p - n)),
    ("positions-behind", "gives a generated token the position before its own", _generated(lambda p, _: p - 1)),
    ("positions-ahead", "gives a generated token the position after its own", _generated(lambda p, _: p + 1)),
    ("positions-frozen", "gives all generated tokens the position of the first", _generated(np.full_like)),
)
_SCALES: Final = (
    (
        "norm-weights",
        "does not scale by the weights of the norms in the layers",
        edits.ones("attn_norm.weight", "ffn_norm.weight", "post_attention_norm.weight"),
    ),
    ("final-norm-weights", "does not scale by the last norm's weights", edits.ones("output_norm.weight")),
    (
        "norm-weights-plus-one",
        "adds one to norm weights",
        edits.tensors(lambda name, values, _: values + 1 if name.endswith("norm.weight") else values),
    ),
    (
        "embedding-scale",
        "multiplies embeddings by the root of the width",
        edits.scaled(lambda n: math.sqrt(n.shape.width), "token_embd.weight"),
    ),
    (
        "score-scale",
        "does not divide attention scores by the root of the head's size",
        edits.queries(lambda n: math.sqrt(n.shape.head_dim)),
    ),
    (
        "score-scale-squared",
        "divides attention scores by the head's size, not its root",
        edits.queries(lambda n: 1 / math.sqrt(n.shape.head_dim)),
    ),
    (
        "score-scale-width",
        "divides attention scores by the root of the model's width",
        edits.queries(lambda n: math.sqrt(n.shape.head_dim / n.shape.width)),
    ),
    ("epsilon-1e-3", "uses the epsilon 1e-3 in norms, whatever the file says", edits.sizes(epsilon=1e-3)),
    ("epsilon-1e-6", "uses the epsilon 1e-6 in norms, whatever the file says", edits.sizes(epsilon=1e-6)),
    ("epsilon-1e-12", "uses an epsilon near zero in norms, whatever the file says", edits.sizes(epsilon=1e-12)),
)
_ROPE: Final = (
    ("rope-missing", "rotates nothing", _turned(of="")),
    ("rope-queries-only", "rotates queries and not keys", _turned(of="q")),
    ("rope-keys-only", "rotates keys and not queries", _turned(of="k")),
    ("rope-values", "rotates values too", _turned(of="qkv")),
    ("rope-exponent", "lets angles fall half as fast as they must", _turned(exponent=1.0)),
    ("rope-half", "rotates half of the features", _turned(rotated=0.5)),
    ("rope-query-late", "rotates a query one position too far", _turned(query_shift=1)),
    ("rope-query-early", "rotates a query one position too little", _turned(query_shift=-1)),
    ("rms-mean", "subtracts the mean in RMSNorm", _arithmetic(rms=_rms_without_mean)),
    ("rms-sum", "divides by the root of the sum of squares in RMSNorm", _arithmetic(rms=_rms_of_sum)),
    ("rms-magnitude", "divides by the mean magnitude in RMSNorm", _arithmetic(rms=_mean_magnitude)),
)
_ROPE_FILES: Final = (
    ("rope-pairing", "rotates the wrong pairs: halves of a head for neighbours, or the reverse", edits.other_pairing),
    ("rope-direction", "rotates backwards", edits.backwards),
    ("rope-base", "uses base 10,000 whatever the file says", edits.sizes(rope_base=10000.0)),
    ("groups-interleaved", "gives query head h the key head h modulo their number", edits.groups(_interleaved)),
    ("groups-reversed", "takes key heads in reverse", edits.groups(_reversed)),
    ("groups-first", "gives all query heads the first key head", edits.first_group),
)
_GATES: Final = (
    ("gate-gelu", "gates with GELU where the model has SiLU", _arithmetic(activation=arithmetic.gelu_tanh)),
    ("gate-relu", "gates with ReLU where the model has SiLU", _arithmetic(activation=arithmetic.relu)),
    ("gate-sigmoid", "gates with the sigmoid alone", _arithmetic(activation=arithmetic.sigmoid)),
    ("gate-linear", "gates without an activation", _arithmetic(activation=_identity)),
)
_LAYER: Final = (
    ("layer-mean", "does not subtract the mean in LayerNorm", _arithmetic(layer=_layer_without_mean)),
    ("layer-unbiased", "divides by the unbiased deviation in LayerNorm", _arithmetic(layer=_layer_unbiased)),
    ("gelu-erf", "computes GELU with the error function", _arithmetic(activation=arithmetic.gelu_erf)),
    ("gelu-quick", "computes GELU as x times the sigmoid of 1.702 x", _arithmetic(activation=arithmetic.gelu_quick)),
    ("gelu-relu", "computes ReLU where the model has GELU", _arithmetic(activation=arithmetic.relu)),
    ("gelu-silu", "computes SiLU where the model has GELU", _arithmetic(activation=arithmetic.silu)),
    ("gelu-missing", "leaves out the activation", _arithmetic(activation=_identity)),
)
_EXPERTS: Final = (
    ("yarn-reversed", "stretches the pairs that YaRN keeps, and keeps the others", _turned(yarn="reversed")),
    ("yarn-everywhere", "stretches all pairs alike", _turned(yarn="everywhere")),
    ("yarn-unrounded", "does not round YaRN's borders to whole pairs", _turned(yarn="unrounded")),
    ("window-everywhere", "slides the window in every layer", _arithmetic(window=lambda w, _i: w)),
    ("window-odd-layers", "slides the window in the wrong half of the layers", _arithmetic(window=masks.odd_layers)),
    (
        "router-all",
        "takes the softmax over all experts, not over the chosen",
        _arithmetic(choose=_softmax_before_choice),
    ),
    ("router-equal", "gives all chosen experts the same share", _arithmetic(choose=_equal_shares)),
    ("router-sigmoid", "weighs experts by the sigmoid of their scores", _arithmetic(choose=_sigmoid_shares)),
    ("experts-plain-swiglu", "computes experts with a plain SwiGLU", _arithmetic(expert_unit=arithmetic.plain_swiglu)),
    ("experts-up-plus-one", "does not add one to an expert's up side", _unit(shift=0.0)),
    ("experts-alpha", "does not sharpen an expert's sigmoid by 1.702", _unit(alpha=1.0)),
    ("experts-clamp", "does not clamp an expert's gate and up side", _unit(limit=1e30)),
)

MISTAKES: Final = (
    *(Mistake(name, about, ARCHITECTURES, how) for name, about, how in _EVERYWHERE),
    *(Mistake(name, about, ARCHITECTURES, edit=edit) for name, about, edit in _SCALES),
    *(Mistake(name, about, ROPE, how) for name, about, how in _ROPE),
    *(Mistake(name, about, ROPE, edit=edit) for name, about, edit in _ROPE_FILES),
    *(Mistake(name, about, GATED, how) for name, about, how in _GATES),
    *(Mistake(name, about, GPT2, how) for name, about, how in _LAYER),
    *(Mistake(name, about, GPT_OSS, how) for name, about, how in _EXPERTS),
    *(
        Mistake(name, f"does not add {what}", architectures, edit=edits.zeroed(*endings))
        for name, what, architectures, endings in (
            (
                "attention-biases",
                "the biases of query, key and value",
                BIASED,
                ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
            ),
            ("query-bias", "the query's bias", BIASED, ("attn_q.bias",)),
            ("key-bias", "the key's bias", BIASED, ("attn_k.bias",)),
            ("value-bias", "the value's bias", BIASED, ("attn_v.bias",)),
            ("attention-biases", "the fused projection's bias", GPT2, ("attn_qkv.bias",)),
            ("attention-output-bias", "the bias after attention", ("gpt2", "gpt-oss"), ("attn_output.bias",)),
            ("up-bias", "the up projection's bias", GPT2, ("ffn_up.bias",)),
            ("down-bias", "the down projection's bias", GPT2, ("ffn_down.bias",)),
            ("layer-shift", "LayerNorm's shift in the layers", GPT2, ("attn_norm.bias", "ffn_norm.bias")),
            ("final-shift", "the last LayerNorm's shift", GPT2, ("output_norm.bias",)),
            ("positions-missing", "the position table's rows", GPT2, ("position_embd.weight",)),
            ("router-bias", "the router's bias", GPT_OSS, ("ffn_gate_inp.bias",)),
            ("experts-gate-bias", "an expert's gate bias", GPT_OSS, ("ffn_gate_exps.bias",)),
            ("experts-up-bias", "an expert's up bias", GPT_OSS, ("ffn_up_exps.bias",)),
            ("experts-down-bias", "an expert's down bias", GPT_OSS, ("ffn_down_exps.bias",)),
        )
    ),
    Mistake(
        "gate-and-up-exchanged",
        "takes gate and up for each other",
        ("llama", "qwen2"),
        edit=edits.exchanged("ffn_gate", "ffn_up"),
    ),
    Mistake(
        "gate-and-up-exchanged",
        "takes gate and up for each other",
        ("phi3",),
        edit=edits.tensors(edits.halves_exchanged),
    ),
    Mistake(
        "fused-key-first", "takes the fused projection's rows as key, query, value", GPT2, edit=edits.fused_order("kqv")
    ),
    Mistake(
        "fused-value-first",
        "takes the fused projection's rows as value, key, query",
        GPT2,
        edit=edits.fused_order("vkq"),
    ),
    Mistake(
        "fused-value-second",
        "takes the fused projection's rows as query, value, key",
        GPT2,
        edit=edits.fused_order("qvk"),
    ),
    Mistake(
        "fused-by-head", "takes the fused projection's rows head by head", GPT2, edit=edits.tensors(edits.fused_by_head)
    ),
    Mistake(
        "positions-from-one",
        "starts the position table at its second row",
        GPT2,
        edit=edits.positions(lambda p, n: np.minimum(p + 1, n - 1)),
    ),
    Mistake(
        "positions-first-row",
        "adds the position table's first row to every token",
        GPT2,
        edit=edits.positions(lambda p, _: p * 0),
    ),
    Mistake(
        "positions-reversed",
        "reads the position table from its end",
        GPT2,
        edit=edits.positions(lambda p, n: n - 1 - p),
    ),
    Mistake(
        "sinks-ignored",
        "leaves attention sinks out",
        GPT_OSS,
        edit=edits.tensors(lambda name, v, _: v * 0 - 1e30 if name.endswith("attn_sinks.weight") else v),
    ),
    Mistake(
        "window-one-longer",
        "lets the sliding window hold one key more",
        GPT_OSS,
        edit=lambda n: edits.sizes(window=n.shape.window + 1)(n),
    ),
    Mistake(
        "window-one-shorter",
        "lets the sliding window hold one key fewer",
        GPT_OSS,
        edit=lambda n: edits.sizes(window=n.shape.window - 1)(n),
    ),
    Mistake("window-missing", "has no sliding window", GPT_OSS, edit=edits.sizes(window=1 << 20)),
    Mistake("yarn-ignored", "rotates as if there were no YaRN", GPT_OSS, _turned(yarn="ignored")),
    Mistake(
        "yarn-magnitude",
        "leaves out YaRN's factor on cosine and sine",
        GPT_OSS,
        edit=edits.queries(edits.magnitude, keys=True),
    ),
    Mistake(
        "router-one-fewer",
        "asks one expert fewer",
        GPT_OSS,
        edit=lambda n: edits.sizes(experts_used=n.shape.experts_used - 1)(n),
    ),
    Mistake(
        "router-one-more",
        "asks one expert more",
        GPT_OSS,
        edit=lambda n: edits.sizes(experts_used=n.shape.experts_used + 1)(n),
    ),
    Mistake(
        "experts-gate-and-up",
        "takes an expert's gate and up for each other",
        GPT_OSS,
        edit=edits.exchanged("ffn_gate_exps", "ffn_up_exps"),
    ),
)
"""All of them; one name may mean its like in several architectures."""


def of(architecture: Architecture) -> dict[str, Mistake]:
    """The mistakes that an engine can make with files of ``architecture``, by name."""
    return {mistake.name: mistake for mistake in MISTAKES if architecture in mistake.architectures}

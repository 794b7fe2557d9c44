"""What an engine may compute in another way: one field per choice, its default the right one.

Shapes: T tokens, H heads, G key-value heads, D features of a head, W the width, E experts.
Sources: Vaswani et al. 2017 (attention), Su et al. 2021 (RoPE), Zhang and Sennrich 2019 (RMSNorm), Ba et al. 2016
(LayerNorm), Hendrycks and Gimpel 2016 (GELU), Shazeer 2020 (SwiGLU), Ainslie et al. 2023 (grouped queries), Peng et al.
2023 (YaRN).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

Array = npt.NDArray[Any]
"""Of float64."""
Integers = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """Divide x (T, W) by its root mean square and scale it by weight (W,)."""
    value: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight
    return value


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Normalise x (T, W) by its mean and biased standard deviation, then scale and shift it (both (W,))."""
    value: Array = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * weight + bias
    return value


def sigmoid(x: Array) -> Array:
    """The logistic function, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x: Array) -> Array:
    """The sigmoid linear unit."""
    return x * sigmoid(x)


def gelu_tanh(x: Array) -> Array:
    """GELU in the tanh form that GPT-2 was trained with (M0-W-1433)."""
    value: Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return value


def gelu_erf(x: Array) -> Array:
    """GELU by the error function itself."""
    value: Array = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return value


def gelu_quick(x: Array) -> Array:
    """GELU as x times the sigmoid of 1.702 x."""
    return x * sigmoid(1.702 * x)


def relu(x: Array) -> Array:
    """The positive part."""
    return np.maximum(x, 0.0)


def clamped_swiglu(gate: Array, up: Array, *, alpha: float = 1.702, limit: float = 7.0, shift: float = 1.0) -> Array:
    """The gated unit of gpt-oss experts: both sides clamped, the sigmoid sharpened, one added to the up side."""
    gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    return gate * sigmoid(alpha * gate) * (up + shift)


def plain_swiglu(gate: Array, up: Array) -> Array:
    """The gated unit of llama and its kin."""
    return silu(gate) * up


def plain_positions(count: int, _prompt: int) -> Integers:
    """(T,) the position of each token: its place in the sequence."""
    return np.arange(count)


def causal(count: int, _prompt: int) -> Mask:
    """(T, T) whether the token of a row sees the token of a column: itself and what came before."""
    return np.tril(np.ones((count, count), dtype=bool))


def grouped(heads: int, groups: int) -> Integers:
    """(H,) the key-value head of each query head: neighbours share one."""
    return np.arange(heads) // (heads // groups)


def experts_chosen(scores: Array, count: int) -> tuple[Integers, Array]:
    """The ``count`` best experts of scores (E,) and their shares: a softmax over the chosen ones only."""
    chosen = np.argsort(-scores, kind="stable")[:count]
    shares = np.exp(scores[chosen] - scores[chosen[0]])
    return chosen, shares / shares.sum()


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding."""

    of: str = "qk"
    """What is rotated: any of q, k and v."""
    exponent: float = 2.0
    """The angle of pair j falls as base ** (-exponent * j / rotated)."""
    rotated: float = 1.0
    """Share of the rotated features that really are."""
    query_shift: int = 0
    """Positions by which queries are off."""
    yarn: Literal["right", "ignored", "unrounded", "reversed", "everywhere"] = "right"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """All choices of an engine."""

    rms: Callable[[Array, Array, float], Array] = rms_norm
    layer: Callable[[Array, Array, Array, float], Array] = layer_norm
    final_norm: bool = True
    attention_norm: bool = True
    ffn_norm: bool = True
    attention_residual: bool = True
    ffn_residual: bool = True
    parallel: bool = False
    """The feed-forward block reads what attention read, not what attention added."""
    positions: Callable[[int, int], Integers] = plain_positions
    visible: Callable[[int, int], Mask] = causal
    last: int = 1
    """Which row from the end of a prompt gives the first token."""
    rotation: Rotation = Rotation()
    window: Callable[[int, int], int] = lambda window, layer: window if layer % 2 == 0 else 0
    """Keys a token sees, itself included, from the file's window and the layer; 0: all."""
    activation: Callable[[Array], Array] | None = None
    """None: as the architecture has it."""
    expert_unit: Callable[[Array, Array], Array] = clamped_swiglu
    choose: Callable[[Array, int], tuple[Integers, Array]] = experts_chosen


RIGHT = Arithmetic()

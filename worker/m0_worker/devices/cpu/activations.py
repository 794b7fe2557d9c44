"""Activation functions on the CPU device, elementwise in float32."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_TEN = np.float32(10)  # beyond it llama.cpp's GELU table is not asked
_LOWEST = np.float32(-88)  # exp(88) is still finite
_ONE = np.float32(1)
_GELU_A = np.float32(0.044715)
_GELU_B = np.float32(0.7978845608028654)  # sqrt(2 / pi)


def one_plus_exp_minus(x: Floats) -> Floats:
    """1 + exp(-x), the reciprocal of the sigmoid."""
    y = np.maximum(x, _LOWEST)
    np.negative(y, out=y)
    np.exp(y, out=y)
    y += _ONE
    return y


@functools.cache
def gelu_table() -> Floats:
    """GELU of every FP16 number, rounded to FP16, by its bits: (65536,)."""
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    x[~(np.abs(x) <= _TEN)] = 0  # never asked for, and NaN would warn
    inner = (_GELU_B * x * (_ONE + _GELU_A * x * x)).astype(np.float64)
    # A float64 tanh, for float32 ones differ in the last bit: 1 + tanh cancels, and the sum is then rounded to FP16.
    y: Floats = np.float32(0.5) * x * (_ONE + np.tanh(inner).astype(np.float32))
    return y.astype(np.float16).astype(np.float32)


def gelu(x: Floats) -> Floats:
    """GELU by its tanh approximation (Hendrycks and Gimpel 2016)."""
    y: Floats = np.tanh(_GELU_B * x * (_ONE + _GELU_A * x * x))
    y += _ONE
    y *= np.float32(0.5) * x
    return y

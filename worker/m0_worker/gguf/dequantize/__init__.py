"""Dequantization, bit for bit as ggml's reference functions do it.

One function a type, from n stored blocks as one flat array of bytes to (n, block_size) weights in float32. The order of
the float operations is part of the format: ``d * scale`` is rounded before it meets the weight. Layouts: ggml-common.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m0_worker.gguf.dequantize import codebooks, k_quants, plain
from m0_worker.gguf.dequantize.fields import widen

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.gguf.dequantize.fields import Bytes, Floats
    from m0_worker.gguf.types import GgmlType

__all__ = ["dequantize", "widen"]

_DECODERS: dict[GgmlType, Callable[[Bytes], Floats]] = {**plain.DECODERS, **k_quants.DECODERS, **codebooks.DECODERS}


def dequantize(raw: Bytes, kind: GgmlType, shape: tuple[int, ...]) -> Floats:
    """Expand stored bytes to float32.

    Args:
        raw: the tensor's bytes, or those of some of its rows.
        kind: their storage type.
        shape: of the result; the last axis is a whole number of blocks.

    Returns:
        A new float32 array of ``shape`` (F32: a view on ``raw``).
    """
    with np.errstate(all="ignore"):  # a damaged scale may be infinite; the logits will tell
        return _DECODERS[kind](np.ascontiguousarray(raw).reshape(-1)).reshape(shape)

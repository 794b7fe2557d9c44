"""File recipes: which type each tensor of a file gets. "Q4_K_M" names a mixture, not a tensor type.

Source: llama-quant.cpp of llama.cpp (llama_tensor_get_type_impl, tensor_type_fallback).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_models.container import FILE_TYPES
from m0_models.quantize import block_size

if TYPE_CHECKING:
    from m0_models.layout import Spec
    from m0_models.shapes import Shape

RECIPES: Final = tuple(FILE_TYPES)
_FALLBACK: Final = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ4_XS": "IQ4_NL",
}
_ALWAYS_F32: Final = {"norm", "bias", "sink", "factors", "router", "expert-bias", "position"}


def tensor_type(recipe: str, spec: Spec, shape: Shape) -> str:
    """The type of ``spec`` in a file of ``recipe``.

    Raises:
        ValueError: unknown recipe.
    """
    if recipe not in RECIPES:
        raise ValueError(f"unknown quantization {recipe!r}: one of {', '.join(RECIPES)}")
    if recipe == "F32" or spec.role in _ALWAYS_F32:
        return "F32"
    if recipe in {"F16", "BF16"}:
        return recipe
    return fitting(_wanted(recipe, spec, shape), spec.shape[-1])


def _wanted(recipe: str, spec: Spec, shape: Shape) -> str:
    if recipe == "MXFP4":  # with experts only they are MXFP4; a dense model is MXFP4 throughout
        return "MXFP4" if not shape.experts or spec.role == "experts" else "Q8_0"
    heads = spec.role == "output" or (spec.role == "embedding" and shape.tied)
    if recipe in {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS"}:
        return "Q6_K" if heads else recipe
    if recipe != "Q4_K_M":
        return recipe  # Q8_0, and the pure K-quants
    if heads:
        return "Q6_K"
    short = spec.name.rsplit(".", 2)[-2]
    if short == "attn_qkv":
        return "Q5_K"
    if short == "attn_v" and shape.experts == 8:  # as llama.cpp does for the mixtures of eight
        return "Q8_0"
    if short in {"attn_v", "ffn_down", "ffn_down_exps"} and _more_bits(spec.layer, shape.layers):
        return "Q6_K"
    return "Q4_K"


def _more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def fitting(kind: str, columns: int) -> str:
    """``kind``, or what llama.cpp takes instead where a row of ``columns`` cannot be cut into its blocks."""
    if columns % block_size(kind)[0] == 0:
        return kind
    kind = _FALLBACK.get(kind, kind)
    return kind if columns % block_size(kind)[0] == 0 else "F16"

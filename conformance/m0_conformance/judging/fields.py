"""Facts about JSON fields that several areas judge: integers, the set of error codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json


CODES = frozenset({
    "INVALID_REQUEST", "MODEL_LOAD_FAILED", "INSUFFICIENT_VRAM", "VRAM_OOM", "CUDA_ERROR", "INFERENCE_TIMEOUT",
    "CANCELLED", "INTERNAL",
})  # fmt: skip


M0_QUANTS = frozenset({"MXFP4", "Q4_K_M", "Q4_0"})

GGUF_FORMATS = M0_QUANTS | {
    "F32", "F16", "BF16", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q2_K_S", "Q3_K", "Q3_K_S", "Q3_K_M", "Q3_K_L",
    "Q4_K", "Q4_K_S", "Q5_K", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_K", "MXFP4_MOE", "NVFP4", "IQ1_S", "IQ1_M", "IQ2_XXS",
    "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "Q1_0",
    "Q2_0",
}  # fmt: skip
"""Names of GGUF's storage formats; the first three are M0's."""


def is_integer(value: object) -> TypeGuard[int]:
    """A JSON integer (true and 1.0 are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def stated_code(body: dict[str, Json]) -> str | None:
    """The code of an error body, at its top or inside "error"."""
    holder = body if "code" in body else body.get("error")
    code = holder.get("code") if isinstance(holder, dict) else None
    return code if isinstance(code, str) else None

"""Facts about JSON fields that several areas judge: integers, the set of error codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json


CODES = frozenset({
    "INVALID_REQUEST", "MODEL_LOAD_FAILED", "INSUFFICIENT_VRAM", "VRAM_OOM", "CUDA_ERROR", "INFERENCE_TIMEOUT",
    "CANCELLED", "INTERNAL",
})  # fmt: skip


def is_integer(value: object) -> TypeGuard[int]:
    """A JSON integer (true and 1.0 are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def stated_code(body: dict[str, Json]) -> str | None:
    """The code of an error body, at its top or inside "error"."""
    holder = body if "code" in body else body.get("error")
    code = holder.get("code") if isinstance(holder, dict) else None
    return code if isinstance(code, str) else None

"""Miniatures: small random models of every architecture and quantization, written in well under a second.

The weights are random but not arbitrary: the residual stream keeps its scale, attention is neither uniform nor one-hot,
norm weights and biases are large enough that forgetting one shows, and logits spread like those of a trained model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_models import container, layout, tokens
from m0_models.container import FILE_TYPES, Tensor
from m0_models.recipes import tensor_type
from m0_models.shapes import ARCHITECTURES, Architecture, Shape, miniature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SHARPNESS: Final = 1.25
"""Factor on queries and on keys: attention scores get a standard deviation of 1.6. With much more, rounding grows from
layer to layer as in no trained model."""


def write(
    path: Path,
    architecture: Architecture,
    quant: str = "F32",
    seed: int = 0,
    *,
    sharpness: float = SHARPNESS,
    **changes: Any,
) -> Path:
    """Write a miniature of ``architecture`` in the file recipe ``quant``; ``changes`` are fields of Shape.

    ``sharpness`` is the factor on queries and on keys: scores get its square as standard deviation.

    Equal arguments give equal bytes.

    Raises:
        ValueError: unknown architecture or quantization.
        TypeError: ``changes`` names no field of Shape.
    """
    shape = miniature(architecture, **changes)
    tensors = (
        Tensor.encode(name, values, tensor_type(quant, spec, shape))
        for name, values, spec in _weights(shape, seed, sharpness)
    )
    metadata = {
        "general.name": f"miniature {architecture} {quant}",
        "general.file_type": FILE_TYPES[quant],
        **layout.metadata(shape),
        **tokens.metadata(shape),
    }
    return container.write(path, architecture, metadata, tensors)


def _weights(shape: Shape, seed: int, sharpness: float) -> Iterator[tuple[str, Floats, layout.Spec]]:
    for number, spec in enumerate(layout.specs(shape)):
        rng = np.random.default_rng([seed, number])
        yield spec.name, random_values(spec, shape, rng, sharpness).astype(np.float32), spec


def random_values(
    spec: layout.Spec, shape: Shape, rng: np.random.Generator, sharpness: float = SHARPNESS
) -> npt.NDArray[np.float64]:
    """Random values of one tensor, in numpy order, on the scale that its role asks for."""
    noise: npt.NDArray[np.float64] = rng.standard_normal(spec.shape)
    match spec.role:
        case "norm":
            return 1 + 0.25 * noise
        case "bias" | "expert-bias":
            return 0.3 * noise
        case "sink":
            return noise
        case "factors":  # between 1 and 4, rising: the long factors of LongRoPE, the divisors of Llama 3
            return np.sort(1 + 3 * rng.random(spec.shape))
        case "position":
            return 0.5 * noise
        case "embedding" | "output":  # the output spreads logits to a standard deviation of about 3
            scale = 1.0 if spec.role == "embedding" and not shape.tied else 3 / np.sqrt(shape.width)
            return noise * float(scale)
        case _:
            values = noise / float(np.sqrt(spec.shape[-1]))
            sharpened = {"attn_q": len(values), "attn_k": len(values), "attn_qkv": shape.queries + shape.keys}
            values[: sharpened.get(spec.name.split(".")[-2], 0)] *= sharpness
            return values


@dataclass(frozen=True, slots=True)
class Recipe:
    """A miniature by name; ``write(path)`` makes it."""

    name: str
    architecture: Architecture
    quant: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of :func:`write`: fields of Shape, ``sharpness``."""

    def write(self, path: Path) -> Path:
        """Write this miniature to ``path``."""
        return write(path, self.architecture, self.quant, **self.changes)


def zoo() -> list[Recipe]:
    """One miniature per architecture, quantization and option worth its own parity run."""
    plain = [Recipe(f"{a}-{q}".lower(), a, q) for a in ARCHITECTURES for q in FILE_TYPES]
    options: list[tuple[str, Architecture, str, dict[str, Any]]] = [
        ("qwen2-tied", "qwen2", "F32", {"tied": True}),
        ("qwen2-tied-q4_k_m", "qwen2", "Q4_K_M", {"tied": True}),
        # 192 is no multiple of 256: Q5_0 and Q8_0 stand in, as in Qwen2.5-0.5B
        ("qwen2-fallback-q4_k_m", "qwen2", "Q4_K_M", {"width": 192, "heads": 3, "kv_heads": 1, "tied": True}),
        ("llama-rope-freqs", "llama", "F32", {"rope_freqs": True}),
        ("llama-mha", "llama", "F32", {"kv_heads": 4}),
        ("phi3-longrope", "phi3", "F32", {"long_rope": 256, "context": 4096}),
        ("phi3-partial-rope", "phi3", "F32", {"rope_dim": 48}),
        ("phi3-head-96", "phi3", "Q4_K_M", {"width": 384, "head_dim": 96, "kv_heads": 4}),
        ("gpt-oss-four-layers", "gpt-oss", "MXFP4", {"layers": 4}),
    ]
    return plain + [Recipe(*option) for option in options]

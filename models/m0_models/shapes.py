"""Sizes of models: the miniatures used for parity and the real ones used for benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

Architecture = Literal["llama", "qwen2", "phi3", "gpt2", "gpt-oss"]
ARCHITECTURES: Final[tuple[Architecture, ...]] = get_args(Architecture)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file's metadata says about its sizes, plus the options a family has."""

    architecture: Architecture
    width: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    layers: int = 2
    feed_forward: int = 512
    vocabulary: int = 320
    context: int = 2048
    tied: bool = False
    rope_base: float = 10000.0
    rope_dim: int = 0
    """Rotated dimensions of a head; 0 means all."""
    rope_freqs: bool = False
    """llama: a `rope_freqs.weight` that divides the angles (Llama 3)."""
    long_rope: int = 0
    """phi3: the original context below which the short factors apply; 0 means no factors (the 4k model)."""
    qkv_bias: bool = False
    window: int = 0
    """Keys a sliding-window layer sees; 0 means no such layer."""
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    yarn_factor: float = 0.0
    yarn_context: int = 0
    epsilon: float = 1e-5

    @property
    def rotated(self) -> int:
        """Rotated dimensions of a head."""
        return self.rope_dim or self.head_dim

    @property
    def queries(self) -> int:
        """Rows of the query projection."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Rows of the key projection, and of the value projection."""
        return self.kv_heads * self.head_dim


_MINIATURES: Final[dict[Architecture, Shape]] = {
    "llama": Shape("llama"),
    "qwen2": Shape("qwen2", qkv_bias=True, rope_base=1e6, epsilon=1e-6),
    "phi3": Shape("phi3"),
    "gpt2": Shape("gpt2", kv_heads=4, qkv_bias=True, tied=True, context=512),
    "gpt-oss": Shape(
        "gpt-oss",
        qkv_bias=True,
        window=16,
        experts=8,
        experts_used=4,
        feed_forward=128,
        expert_feed_forward=128,
        rope_base=150000.0,
        yarn_factor=32.0,
        yarn_context=64,
    ),
}

QWEN2_5_0_5B: Final = Shape(
    "qwen2",
    width=896,
    heads=14,
    kv_heads=2,
    head_dim=64,
    layers=24,
    feed_forward=4864,
    vocabulary=151936,
    context=32768,
    tied=True,
    qkv_bias=True,
    rope_base=1e6,
    epsilon=1e-6,
)
PHI_3_MINI_4K: Final = Shape(
    "phi3",
    width=3072,
    heads=32,
    kv_heads=32,
    head_dim=96,
    layers=32,
    feed_forward=8192,
    vocabulary=32064,
    context=4096,
    window=2047,
)
GPT_OSS_20B: Final = Shape(
    "gpt-oss",
    width=2880,
    heads=64,
    kv_heads=8,
    head_dim=64,
    layers=24,
    feed_forward=2880,
    vocabulary=201088,
    context=131072,
    qkv_bias=True,
    window=128,
    experts=32,
    experts_used=4,
    expert_feed_forward=2880,
    rope_base=150000.0,
    yarn_factor=32.0,
    yarn_context=4096,
)


def miniature(architecture: Architecture, **changes: object) -> Shape:
    """The miniature of ``architecture``, with fields of Shape changed by name.

    Raises:
        ValueError: unknown architecture.
    """
    if architecture not in _MINIATURES:
        raise ValueError(f"unknown architecture {architecture!r}: one of {', '.join(ARCHITECTURES)}")
    return replace(_MINIATURES[architecture], **changes)  # type: ignore[arg-type]  # checked by replace itself

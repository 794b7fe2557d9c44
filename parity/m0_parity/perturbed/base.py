"""What a perturbation is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_models.shapes import Architecture

    from m0_parity.change import Patch
    from m0_parity.names import Place


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One change; ``place`` and ``words`` are what the tools must answer."""

    name: str
    architecture: Architecture
    place: Place
    words: str
    apply: Callable[[Patch], None]
    quant: str = "F32"
    shape: dict[str, Any] = field(default_factory=dict)
    """Options of the miniature."""
    worker: dict[str, Any] = field(default_factory=dict)
    """Options of the worker instead of a change of the file."""
    position: int | None = None
    """The first position that may differ, where that is the point."""

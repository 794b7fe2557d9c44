"""Miniatures for the engine's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from m0_models import miniatures

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write a miniature once per session and return its path."""
    folder = tmp_path_factory.mktemp("miniatures")
    made: dict[str, Path] = {}

    def make(architecture: Any, quant: str = "F32", **changes: Any) -> Path:
        name = "-".join([architecture, quant, *(f"{k}={v}" for k, v in sorted(changes.items()))])
        if name not in made:
            made[name] = miniatures.write(folder / f"{name}.gguf", architecture, quant, **changes)
        return made[name]

    return make

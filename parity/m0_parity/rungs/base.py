"""What a rung reports, and where it works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from m0_parity.twin import write_twin

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.miniatures import Recipe

    from m0_parity.compare import Comparison
    from m0_parity.divergence import Divergence


@dataclass(slots=True)
class Row:
    """One measurement of a rung: what, how large, how large it may be."""

    rung: str
    label: str
    measured: float
    bound: float
    note: str = ""
    comparison: Comparison | None = None
    divergence: Divergence | None = None
    ran: bool = True
    """False where it cannot be tried here; the note says why, and nothing is claimed."""
    missing: list[str] = field(default_factory=list)
    """What one side has and the other has not: nothing is claimed of it, and the row is not whole."""

    @property
    def passed(self) -> bool:
        """Within the bound (a NaN is not)."""
        return self.ran and self.measured <= self.bound


@dataclass(slots=True)
class Bench:
    """The folder of models of one climb; a miniature and its twin are written once."""

    folder: Path
    length: int = 300
    """Tokens of the first prompt."""
    decode: int = 8
    _made: dict[str, Path] = field(default_factory=dict)

    def model(self, recipe: Recipe) -> Path:
        """The miniature of a recipe."""
        if recipe.name not in self._made:
            self._made[recipe.name] = recipe.write(self.folder / f"{recipe.name}.gguf")
        return self._made[recipe.name]

    def twin(self, recipe: Recipe) -> Path:
        """Its float32 twin; the file itself where it is F32 already."""
        if recipe.quant == "F32":
            return self.model(recipe)
        key = f"{recipe.name}.twin"
        if key not in self._made:
            self._made[key] = write_twin(self.model(recipe), self.folder / f"{key}.gguf")
        return self._made[key]

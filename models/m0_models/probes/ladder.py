"""The forms in which a probe is tried, until one is loaded: storage, architecture, vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Form

QUANTS: Final = ("Q4_0", "Q8_0", "F16", "F32", "Q4_K_M")
CLIMBERS: Final = ("script", "script-deep", "chatter", "metronome", "dice", "position", "memory", "bias")
"""Probes whose form is not what they test; every other name is one exact file."""
LLAMAS: Final = ("script-llama", "position-llama", "memory-llama")
"""Probes whose architecture is what they test, but not their storage."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One form; what is None is the recipe's own."""

    quant: str | None = None
    form: Form | None = None
    spm: bool = False

    @property
    def label(self) -> str:
        """For people: "F16, llama, SentencePiece"."""
        words = (self.quant, self.form, "SentencePiece" if self.spm else None)
        return ", ".join(word for word in words if word) or "the probe's own form"

    def keywords(self, name: str) -> dict[str, Any]:
        """Arguments for the recipe ``name``.

        Raises:
            ValueError: this probe has no such form.
        """
        if name not in (*CLIMBERS, *LLAMAS):
            return {}
        chosen: dict[str, Any] = {}
        if self.quant is not None:
            chosen["quant"] = self.quant
        if name in LLAMAS:
            return chosen
        if self.form is not None:
            chosen["form"] = self.form
        if self.spm:
            if name == "bias":
                raise ValueError("the bias probe needs biases, and files with SentencePiece have none")
            chosen["spm"] = True
        if self.quant == "Q4_K_M" and name in {"chatter", "metronome"}:
            raise ValueError(f"the {name} probe's rows of 64 cannot be cut into blocks of 256")
        return chosen


def rungs(like: Likeness | None) -> list[Rung]:
    """The forms to try, the recipe's own first: all storages of an architecture, then the next architecture."""
    if like is not None:
        return [Rung(), *(Rung(quant) for quant in QUANTS)]
    return [
        Rung(),
        *(Rung(quant, "qwen2") for quant in QUANTS),
        *(Rung(quant, "llama") for quant in QUANTS),
        *(Rung(quant, "llama", spm=True) for quant in QUANTS),
    ]

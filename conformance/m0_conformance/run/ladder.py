"""Which form of a probe a worker loads: the first that it does not refuse, and what it refused before."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module


@dataclass(slots=True)
class Ladder:
    """The forms of one run (see `m0_models.probes.ladder`), numbered; 0 is each probe's own."""

    rung: int = 0
    """The form in which probes are written."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(probe, what became of a start with it)."""
    loaded: dict[str, str] = field(default_factory=dict)
    """Probe to the form that was loaded after others were refused."""
    _tried: dict[str, set[int]] = field(default_factory=dict)
    _labels: list[str] = field(default_factory=list)

    def refuse(self, model: str, error: Exception) -> None:
        """A form was not loaded."""
        self.refused.append((model, str(error)))

    def next(self, model: str, shape: str | None, *, anywhere: bool) -> int | None:
        """The form to try now; other architectures and vocabularies only if `anywhere`. None when all are refused."""
        ladder = import_module("m0_models.probes.ladder")
        if model not in ladder.CLIMBERS:
            return None
        self._labels = self._labels or import_module("m0_models.named").rungs(shape)
        tried = self._tried.setdefault(model, {self.rung})
        kind = self._labels[self.rung].partition(", ")[2] or self._labels[1].partition(", ")[2]
        for number, label in enumerate(self._labels):
            if number not in tried and (anywhere or label.partition(", ")[2] == kind):
                tried.add(number)
                return number
        return None

    def load(self, model: str, rung: int, *, found: bool) -> None:
        """This form is loaded; probes are written in it from now on if `found`."""
        self.loaded[model] = self._labels[rung]
        if found:
            self.rung = rung

    def sentences(self) -> list[str]:
        """For people: one sentence for each probe that needed another form."""
        return [
            f"the {model} probe is judged as {label}: {sum(name == model for name, _ in self.refused)} other form(s) "
            f"not loaded, first {next(said for name, said in self.refused if name == model)}"
            for model, label in self.loaded.items()
        ]

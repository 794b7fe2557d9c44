"""Personas: whole workers in which many deviations act at once, as early ones are; declared in `personas.toml`.

[go-server]
about = "…"
parts = ["PlainErrors", "index-from-one"]          # traits by class, defects by name; the first is next to the client
fails = ["M0-W-1302/error-json", …]                # exactly the clauses that must be FAIL or WARN
not_tested = ["M0-W-1330/idempotent", …]           # exactly those that cannot be judged, BLOCKED and NOT_TESTED
causes = ["stream-buffered", …]                    # what the report must name, in this order
options = { fast = true }                          # of the run
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur import traits
from m0_conformance.saboteur.catalogue import find as find_defect
from m0_conformance.saboteur.several import Several

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Defect

PREFIX = "persona:"
TABLE = Path(__file__).with_name("personas.toml")


@dataclass(frozen=True, slots=True)
class Persona:
    """One whole worker and what a run must say about it."""

    name: str
    about: str
    parts: tuple[str, ...] = ()
    fails: frozenset[str] = frozenset()
    not_tested: frozenset[str] = frozenset()
    causes: tuple[str, ...] = ()
    may: frozenset[str] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)

    def kind(self) -> type[Several]:
        """The lie that is all of its lies."""
        return type(self.name, (Several,), {"parts": tuple(part(name) for name in self.parts)})


def part(name: str) -> type[Defect]:
    """A trait or a defect. Raises ValueError for a name that is neither."""
    kind: type[Defect] | None = getattr(traits, name, None) if name.isidentifier() else find_defect(name)
    if kind is None:
        raise ValueError(f"{TABLE.name}: there is neither a trait nor a defect {name!r}")
    return kind


def personas() -> dict[str, Persona]:
    """All of them, by name. Raises ValueError naming an unknown key."""
    found = {}
    for name, table in tomllib.loads(TABLE.read_text("utf-8")).items():
        unknown = sorted(set(table) - {"about", "parts", "fails", "not_tested", "causes", "may", "options"})
        if unknown:
            raise ValueError(f"{TABLE.name}: {name} has the unknown key {unknown[0]!r}")
        found[name] = Persona(
            name,
            table["about"],
            tuple(table["parts"]),
            frozenset(table.get("fails", ())),
            frozenset(table.get("not_tested", ())),
            tuple(table.get("causes", ())),
            frozenset(table.get("may", ())),
            table.get("options", {}),
        )
    return found


def find(name: str) -> type[Defect] | None:
    """A defect by its name, or "persona:NAME"."""
    if not name.startswith(PREFIX):
        return find_defect(name)
    persona = personas().get(name.removeprefix(PREFIX))
    return None if persona is None else persona.kind()

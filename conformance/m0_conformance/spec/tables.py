"""Turns tables of the registry's TOML files into values and collects what is wrong with them.

Every complaint names the file and the key, and reading goes on, so that one run shows all of them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, TypeVar

from m0_conformance.spec.requirements import (
    Basis,
    Clause,
    Disposition,
    Level,
    Observable,
    Profile,
    Reading,
    Requirement,
    Variant,
)

REQUIREMENT_ID = re.compile(r"M0-(?:W-[0-9]{4}|SYS-[0-9]+(?:\.[0-9]+)+)")
CLAUSE_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
READING_NAME = re.compile(r"E-[A-Z0-9]+")
SCOPES = frozenset({"M0", "M0-opt", "M1", "dead"})
STANCES = ("strict", "lenient", "deviation")
SMALLEST_PROFILE = {
    Observable.WIRE: "m0-wire",
    Observable.TIMING: "m0-wire",
    Observable.CLI: "m0-process",
    Observable.PROCESS: "m0-process",
    Observable.LOG: "m0-process",
    Observable.GPU: "m0",
    Observable.WHITEBOX: "m0",
    Observable.DOCUMENT: "m0",
}
_REQUIREMENT_KEYS = frozenset({"title", "level", "scope", "reason"})
_CLAUSE_KEYS = frozenset(
    {
        "text",
        "level",
        "level_basis",
        "observable",
        "status",
        "profile",
        "reason",
        "depends_on",
        "min_evidence",
        "readings",
        "note",
        "no_defect",
    }
)
_READING_KEYS = frozenset({"topic", "problem", "reading", "default", "variants"})
_PROFILE_KEYS = frozenset({"title", "needs", "includes", "gates", "next"})
_E = TypeVar("_E", bound=StrEnum)


class TableReader:
    """Reads tables; `problems` grows while it does."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def complain(self, where: str, key: str, what: str) -> None:
        """Add a complaint about `key` in the file `where`."""
        self.problems.append(f"{where}: {key} {what}" if key else f"{where}: {what}")

    def requirement(
        self,
        where: str,
        identifier: str,
        table: Any,
        passages: dict[str, dict[str, Any]],
        clauses: tuple[Clause, ...],
    ) -> Requirement | None:
        """A requirement with its clauses, or None where the identifier is none of the spec's."""
        if not isinstance(table, dict):
            self.complain(where, identifier, "must be a table")
            return None
        passage = passages.get(identifier)
        if REQUIREMENT_ID.fullmatch(identifier) is None or passage is None:
            self.complain(where, identifier, "is no requirement of the pinned spec (passages.json)")
            return None
        self.known_keys(where, identifier, table, _REQUIREMENT_KEYS)
        title = self.text(where, identifier, table, "title") or ""
        if title != passage["title"]:
            self.complain(where, identifier, f"has title {title!r}, the spec's heading says {passage['title']!r}")
        level = self.word(where, identifier, table, "level", Level, None)
        scope = self.text(where, identifier, table, "scope") or ""
        if scope not in SCOPES:
            self.complain(where, identifier, f"has scope {scope!r}; known: {', '.join(sorted(SCOPES))}")
        reason = self.text(where, identifier, table, "reason", required=False)
        requirement = Requirement(
            id=identifier,
            title=title,
            line=int(passage["line"]),
            sha256=str(passage["sha256"]),
            level=level,
            scope=scope,
            clauses=clauses,
            reason=reason,
        )
        if not clauses:
            self.complain(where, identifier, "has no clause")
        if requirement.active and reason is not None:
            self.complain(where, identifier, "gives a reason although a clause of it is active")
        if clauses and not requirement.active and reason is None:
            self.complain(where, identifier, "has no active clause and must say why in `reason`")
        return requirement

    def clause(
        self, where: str, requirement: str, name: str, table: dict[str, Any], head: dict[str, Any], area: str
    ) -> Clause:
        """One clause; it inherits the level of `head`, its requirement's table."""
        key = f"{requirement}/{name}"
        if CLAUSE_NAME.fullmatch(name) is None:
            self.complain(where, key, "needs a kebab-case name")
        self.known_keys(where, key, table, _CLAUSE_KEYS)
        status = self.word(where, key, table, "status", Disposition, Disposition.ACTIVE)
        observable = self.word(where, key, table, "observable", Observable, None)
        reason = self.text(where, key, table, "reason", required=False)
        if status is not Disposition.ACTIVE and reason is None:
            self.complain(where, key, f"is {status} and must say why in `reason`")
        if status is Disposition.ACTIVE and reason is not None:
            self.complain(where, key, "is active and must not give a `reason`; use `note`")
        if status is Disposition.ACTIVE and observable is Observable.WHITEBOX:
            self.complain(where, key, "is active, but seen only from inside")
        if status is Disposition.WHITEBOX and observable not in {Observable.WHITEBOX, Observable.DOCUMENT}:
            self.complain(where, key, f"is whitebox, but observable is {observable}")
        if status is Disposition.ACTIVE and observable is Observable.DOCUMENT:
            self.complain(where, key, "rests on a document, which no check sees from outside")
        default_profile = "m1-preview" if status is Disposition.DEFERRED else SMALLEST_PROFILE[observable]
        minimum = table.get("min_evidence", 1)
        if not isinstance(minimum, int) or isinstance(minimum, bool) or minimum < 1:
            self.complain(where, key, f"has min_evidence {minimum!r}; it must be an integer above 0")
            minimum = 1
        return Clause(
            id=key,
            requirement=requirement,
            level=self.word(where, key, table, "level", Level, head.get("level")),
            level_basis=self.word(where, key, table, "level_basis", Basis, Basis.KEYWORD),
            text=self.text(where, key, table, "text") or "",
            observable=observable,
            status=status,
            profile=self.text(where, key, table, "profile", required=False) or default_profile,
            reason=reason,
            depends_on=self.words(where, key, table, "depends_on"),
            min_evidence=minimum,
            readings=self.words(where, key, table, "readings"),
            note=self.text(where, key, table, "note", required=False),
            no_defect=self.text(where, key, table, "no_defect", required=False),
            area=area,
        )

    def readings(self, document: dict[str, Any]) -> dict[str, Reading]:
        """All of readings.toml."""
        where = "spec/readings.toml"
        found: dict[str, Reading] = {}
        for name, table in document.items():
            if READING_NAME.fullmatch(name) is None or not isinstance(table, dict):
                self.complain(where, name, "must be a table named E- and capital letters or digits")
                continue
            self.known_keys(where, name, table, _READING_KEYS)
            variants = tuple(
                Variant(variant, str(value.get("text", "")), value.get("stance"))
                for variant, value in table.get("variants", {}).items()
            )
            for variant in variants:
                if variant.stance not in STANCES or not variant.text:
                    self.complain(
                        where, f"{name}.{variant.name}", f"needs text and a stance out of {', '.join(STANCES)}"
                    )
            reading = Reading(
                name=name,
                topic=self.text(where, name, table, "topic") or "",
                problem=self.text(where, name, table, "problem") or "",
                reading=self.text(where, name, table, "reading") or "",
                variants=variants,
                default=self.text(where, name, table, "default", required=False),
            )
            if variants and not any(variant.stance == "strict" for variant in variants):
                self.complain(where, name, "has no variant that strict mode accepts")
            if reading.default is not None and all(
                (variant.name, variant.stance) != (reading.default, "strict") for variant in variants
            ):
                self.complain(where, name, f"has default {reading.default!r}, which is no strict variant of it")
            found[name] = reading
        return found

    def profiles(self, document: dict[str, Any]) -> dict[str, Profile]:
        """All of profiles.toml."""
        where = "spec/profiles.toml"
        found: dict[str, Profile] = {}
        for name, table in document.items():
            self.known_keys(where, name, table, _PROFILE_KEYS)
            found[name] = Profile(
                name=name,
                title=self.text(where, name, table, "title") or "",
                needs=self.text(where, name, table, "needs") or "",
                includes=self.words(where, name, table, "includes"),
                gates=bool(table.get("gates", True)),
                next=self.text(where, name, table, "next", required=False),
            )
        for profile in found.values():
            for other in (*profile.includes, *([profile.next] if profile.next else [])):
                if other not in found:
                    self.complain(where, profile.name, f"names the unknown profile {other!r}")
        return found

    # ---- fields ----------------------------------------------------------------------------------------------------

    def known_keys(self, where: str, key: str, table: dict[str, Any], known: frozenset[str]) -> None:
        """Complain about keys that nothing reads: most often a misspelt one."""
        for unknown in sorted(set(table) - known):
            self.complain(where, key, f"has the unknown key {unknown!r}; known: {', '.join(sorted(known))}")

    def text(self, where: str, key: str, table: dict[str, Any], name: str, *, required: bool = True) -> str | None:
        """A text with its white space folded."""
        value = table.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value.strip():
            self.complain(where, key, f"needs a string in `{name}`")
            return None
        return " ".join(value.split())

    def words(self, where: str, key: str, table: dict[str, Any], name: str) -> tuple[str, ...]:
        """A list of different strings; empty where the key is missing."""
        value = table.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.complain(where, key, f"needs a list of strings in `{name}`")
            return ()
        if len(set(value)) != len(value):
            self.complain(where, key, f"names something twice in `{name}`")
        return tuple(value)

    def word(self, where: str, key: str, table: dict[str, Any], name: str, kind: type[_E], default: str | None) -> _E:
        """A word out of an enumeration; its first one after a complaint, so that reading goes on."""
        value = table.get(name, default)
        try:
            return kind(str(value))
        except ValueError:
            self.complain(where, key, f"has {name} {value!r}; known: {', '.join(kind)}")
            return next(iter(kind))

"""Turns tables of the registry's TOML files into values and collects what is wrong with them.

Every complaint names the file and the key, and reading goes on, so that one run shows all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

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

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def shape_problems(schema: dict[str, Any], document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, complaint) for everything in which a file's tables are not what its JSON Schema says."""
    for error in Draft202012Validator(schema).iter_errors(document):
        *place, field = [*map(str, error.absolute_path)] or [""]
        key, value = "/".join(place), error.instance
        of_names = "propertyNames" in error.absolute_schema_path
        if of_names or error.validator in {"additionalProperties", "required"}:
            key = "/".join((*place, field)).rstrip("/")
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            unknown = ", ".join(repr(name) for name in value if name not in known)
            yield key, f"has the unknown key {unknown}; known: {', '.join(sorted(known))}"
        elif error.validator == "required":
            yield key, f"needs `{next(name for name in error.validator_value if name not in value)}`"
        elif error.validator == "enum":
            yield key, f"has {field} {value!r}; known: {', '.join(error.validator_value)}"
        elif of_names:
            yield f"{key}/{value}".lstrip("/"), f"needs a name like {error.validator_value}"
        else:
            yield key, f"has {field} {value!r}, which is not {error.validator} {error.validator_value}"


def text(table: dict[str, Any], name: str) -> str | None:
    """A string with its white space folded; None where the key is missing."""
    return " ".join(table[name].split()) if name in table else None


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
        table: dict[str, Any],
        passages: dict[str, dict[str, Any]],
        clauses: tuple[Clause, ...],
    ) -> Requirement | None:
        """A requirement with its clauses, or None where the identifier is none of the spec's."""
        passage = passages.get(identifier)
        if passage is None:
            self.complain(where, identifier, "is no requirement of the pinned spec (passages.json)")
            return None
        title, reason = text(table, "title") or "", text(table, "reason")
        if title != passage["title"]:
            self.complain(where, identifier, f"has title {title!r}, the spec's heading says {passage['title']!r}")
        requirement = Requirement(
            id=identifier,
            title=title,
            line=int(passage["line"]),
            sha256=str(passage["sha256"]),
            level=Level(table["level"]),
            scope=table["scope"],
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
        status = Disposition(table.get("status", Disposition.ACTIVE))
        observable = Observable(table["observable"])
        reason = text(table, "reason")
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
        return Clause(
            id=key,
            requirement=requirement,
            level=Level(table.get("level", head["level"])),
            level_basis=Basis(table.get("level_basis", Basis.KEYWORD)),
            text=text(table, "text") or "",
            observable=observable,
            status=status,
            profile=table.get("profile", default_profile),
            reason=reason,
            depends_on=tuple(table.get("depends_on", ())),
            min_evidence=table.get("min_evidence", 1),
            readings=tuple(table.get("readings", ())),
            note=text(table, "note"),
            takes=text(table, "takes"),
            no_defect=text(table, "no_defect"),
            area=area,
        )

    def readings(self, document: dict[str, Any]) -> dict[str, Reading]:
        """All of readings.toml."""
        where = "spec/readings.toml"
        found: dict[str, Reading] = {}
        for name, table in document.items():
            variants = tuple(
                Variant(variant, value["text"], value["stance"]) for variant, value in table.get("variants", {}).items()
            )
            reading = Reading(
                name=name,
                topic=text(table, "topic") or "",
                problem=text(table, "problem") or "",
                reading=text(table, "reading") or "",
                variants=variants,
                default=table.get("default"),
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
            found[name] = Profile(
                name=name,
                title=table["title"],
                needs=table["needs"],
                includes=tuple(table["includes"]),
                gates=table.get("gates", True),
                next=table.get("next"),
            )
        for profile in found.values():
            for other in (*profile.includes, *([profile.next] if profile.next else [])):
                if other not in found:
                    self.complain(where, profile.name, f"names the unknown profile {other!r}")
        return found

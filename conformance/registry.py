"""Loads and validates the requirement registry from the package's own data files.

The files (`conformance/spec/`) are TOML by area, one table per requirement and one sub-table per clause:

    [M0-W-1300]
    title = "POST /execute"          # equals the heading in the pinned spec
    level = "MUST"
    [M0-W-1300.prompt-max]
    text = "…"                       # own words
    observable = "wire"

A clause inherits its requirement's level; `level_basis` is "keyword", `status` "active" and `min_evidence` 1 unless
said otherwise; the smallest profile follows from the observable. Everything wrong is reported at once, each complaint
with its file and key.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from conformance.requirements import (
    Basis,
    Clause,
    Disposition,
    Level,
    Mode,
    Observable,
    Profile,
    Reading,
    Registry,
    Requirement,
    SpecLock,
    Variant,
)

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "Basis",
    "Clause",
    "Disposition",
    "Level",
    "Mode",
    "Observable",
    "Profile",
    "Reading",
    "Registry",
    "RegistryError",
    "Requirement",
    "SpecLock",
    "Variant",
    "load_registry",
    "read_registry",
]

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
    }
)
_READING_KEYS = frozenset({"topic", "problem", "reading", "default", "variants"})
_PROFILE_KEYS = frozenset({"title", "needs", "includes", "gates", "next"})
_E = TypeVar("_E", bound=StrEnum)


class RegistryError(ValueError):
    """The registry's files contradict each other or the pinned spec; `problems` lists every complaint."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the requirement registry is broken:\n" + "\n".join(f"  {problem}" for problem in problems))


@cache
def load_registry() -> Registry:
    """The registry shipped with this package. Raises RegistryError."""
    return read_registry(files("conformance") / "spec")


def read_registry(root: Traversable) -> Registry:
    """Read the registry below `root` (laid out as `conformance/spec`). Raises RegistryError with all complaints."""
    return _Reader(root).read()


class _Reader:
    """Collects complaints while it turns tables into values."""

    def __init__(self, root: Traversable) -> None:
        self.root = root
        self.problems: list[str] = []
        self.hash = hashlib.sha256()

    def read(self) -> Registry:
        lock = self.toml("SPEC.lock.toml")
        passages = self.passages(lock)
        profiles = self.profiles(self.toml("profiles.toml"))
        readings = self.readings(self.toml("readings.toml"))
        retired = {str(key): str(value) for key, value in self.toml("retired.toml").items()}
        requirements: dict[str, Requirement] = {}
        areas = sorted(
            (entry for entry in (self.root / "registry").iterdir() if entry.name.endswith(".toml")),
            key=lambda entry: entry.name,
        )
        for entry in areas:
            where = f"registry/{entry.name}"
            for identifier, table in self.toml(where).items():
                if identifier in requirements:
                    self.complain(where, identifier, f"is already in registry/{requirements[identifier].area}.toml")
                    continue
                requirement = self.requirement(where, identifier, table, passages)
                if requirement is not None:
                    requirements[identifier] = requirement
        for identifier in sorted(set(passages) - set(requirements)):
            self.complain("registry", identifier, "is a requirement of the spec, but no file accounts for it")
        registry = Registry(
            spec=SpecLock(
                repository=str(lock.get("repository", "")),
                path=str(lock.get("path", "")),
                commit=str(lock.get("commit", "")),
                sha256=str(lock.get("sha256", "")),
                lines=int(lock.get("lines", 0)),
            ),
            requirements=MappingProxyType(dict(sorted(requirements.items(), key=lambda item: _spec_order(item[0])))),
            readings=MappingProxyType(readings),
            profiles=MappingProxyType(profiles),
            digest=self.hash.hexdigest(),
            retired=MappingProxyType(retired),
        )
        self.cross_check(registry)
        if self.problems:
            raise RegistryError(self.problems)
        return registry

    # ---- files -----------------------------------------------------------------------------------------------------

    def complain(self, where: str, key: str, what: str) -> None:
        self.problems.append(f"{where}: {key} {what}" if key else f"{where}: {what}")

    def data(self, name: str) -> bytes:
        entry = self.root
        for part in name.split("/"):
            entry = entry / part
        try:
            data = entry.read_bytes()
        except OSError as error:
            raise RegistryError([f"{name}: cannot be read ({error.strerror})"]) from error
        # Line ends are folded, so that a checkout with CRLF has the same digest.
        self.hash.update(name.encode() + b"\0" + data.replace(b"\r\n", b"\n") + b"\0")
        return data

    def toml(self, name: str) -> dict[str, Any]:
        try:
            return tomllib.loads(self.data(name).decode())
        except ValueError as error:  # TOMLDecodeError (which also finds duplicate keys) and UnicodeDecodeError
            self.complain(name, "", f"is no valid TOML: {error}")
            return {}

    def passages(self, lock: dict[str, Any]) -> dict[str, dict[str, Any]]:
        where = "passages.json"
        try:
            document = json.loads(self.data(where))
        except ValueError as error:
            raise RegistryError([f"{where}: is no valid JSON: {error}"]) from error
        for key in ("repository", "path", "commit", "sha256", "lines"):
            if document.get(key) != lock.get(key):
                self.complain(
                    "SPEC.lock.toml", key, f"is {lock.get(key)!r}, but {where} was made from {document.get(key)!r}"
                )
        return cast("dict[str, dict[str, Any]]", document["requirements"])

    # ---- tables ----------------------------------------------------------------------------------------------------

    def requirement(
        self, where: str, identifier: str, table: Any, passages: dict[str, dict[str, Any]]
    ) -> Requirement | None:
        if not isinstance(table, dict):
            self.complain(where, identifier, "must be a table")
            return None
        passage = passages.get(identifier)
        if REQUIREMENT_ID.fullmatch(identifier) is None or passage is None:
            self.complain(where, identifier, "is no requirement of the pinned spec (passages.json)")
            return None
        fields = {key: value for key, value in table.items() if not isinstance(value, dict)}
        self.known_keys(where, identifier, fields, _REQUIREMENT_KEYS)
        title = self.text(where, identifier, fields, "title") or ""
        if title != passage["title"]:
            self.complain(where, identifier, f"has title {title!r}, the spec's heading says {passage['title']!r}")
        level = self.word(where, identifier, fields, "level", Level, None)
        scope = self.text(where, identifier, fields, "scope") or ""
        if scope not in SCOPES:
            self.complain(where, identifier, f"has scope {scope!r}; known: {', '.join(sorted(SCOPES))}")
        reason = self.text(where, identifier, fields, "reason", required=False)
        clauses = tuple(
            self.clause(where, identifier, name, value, level)
            for name, value in table.items()
            if isinstance(value, dict)
        )
        requirement = Requirement(
            id=identifier,
            title=title,
            line=int(passage["line"]),
            sha256=str(passage["sha256"]),
            level=level,
            scope=scope,
            area=where.rpartition("/")[2].removesuffix(".toml"),
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

    def clause(self, where: str, requirement: str, name: str, table: dict[str, Any], level: Level) -> Clause:
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
            self.complain(where, key, f"has min_evidence {minimum!r}; it must be a whole number above 0")
            minimum = 1
        return Clause(
            id=key,
            requirement=requirement,
            level=self.word(where, key, table, "level", Level, level),
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
        )

    def readings(self, document: dict[str, Any]) -> dict[str, Reading]:
        where = "readings.toml"
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
        where = "profiles.toml"
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

    def cross_check(self, registry: Registry) -> None:
        for clause in registry.clauses.values():
            where = f"registry/{registry.requirements[clause.requirement].area}.toml"
            if clause.profile not in registry.profiles:
                self.complain(where, clause.id, f"names the unknown profile {clause.profile!r}")
            for reading in clause.readings:
                if reading not in registry.readings:
                    self.complain(where, clause.id, f"names the unknown reading {reading!r}")
            for other in clause.depends_on:
                if other not in registry.clauses:
                    self.complain(where, clause.id, f"depends on the unknown clause {other!r}")
                elif registry.clauses[other].status is not Disposition.ACTIVE:
                    self.complain(where, clause.id, f"depends on {other}, which is not active")
            if clause.id in registry.retired:
                self.complain(where, clause.id, "is a retired id; ids are never reused")
            if clause.status is Disposition.DISPUTED and not clause.readings:
                self.complain(where, clause.id, "is disputed and must name its reading")
            if (clause.status is Disposition.DEFERRED) != (clause.profile == "m1-preview"):
                self.complain(where, clause.id, "must be deferred exactly when its profile is m1-preview")
        for cycle in _cycles(registry):
            self.complain("registry", cycle, "depends on itself")

    # ---- fields ----------------------------------------------------------------------------------------------------

    def known_keys(self, where: str, key: str, table: dict[str, Any], known: frozenset[str]) -> None:
        for unknown in sorted(set(table) - known):
            self.complain(where, key, f"has the unknown key {unknown!r}; known: {', '.join(sorted(known))}")

    def text(self, where: str, key: str, table: dict[str, Any], name: str, *, required: bool = True) -> str | None:
        value = table.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value.strip():
            self.complain(where, key, f"needs a text in `{name}`")
            return None
        return " ".join(value.split())

    def words(self, where: str, key: str, table: dict[str, Any], name: str) -> tuple[str, ...]:
        value = table.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.complain(where, key, f"needs a list of texts in `{name}`")
            return ()
        if len(set(value)) != len(value):
            self.complain(where, key, f"names something twice in `{name}`")
        return tuple(value)

    def word(self, where: str, key: str, table: dict[str, Any], name: str, kind: type[_E], default: _E | None) -> _E:
        value = table.get(name, default)
        try:
            return kind(str(value))
        except ValueError:
            self.complain(where, key, f"has {name} {value!r}; known: {', '.join(kind)}")
            return next(iter(kind))


def _spec_order(identifier: str) -> tuple[int, tuple[int, ...]]:
    """System requirements first, then the worker's by number."""
    _, kind, number = identifier.split("-", 2)
    return (kind != "SYS", tuple(int(part) for part in number.split(".")))


def _cycles(registry: Registry) -> list[str]:
    """Clauses from which a walk along depends_on comes back to them."""
    found = []
    for start in registry.clauses:
        seen: set[str] = set()
        todo = [other for other in registry.clauses[start].depends_on if other in registry.clauses]
        while todo:
            current = todo.pop()
            if current == start:
                found.append(start)
                break
            if current not in seen:
                seen.add(current)
                todo += [other for other in registry.clauses[current].depends_on if other in registry.clauses]
    return found

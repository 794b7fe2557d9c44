"""Loads and validates the requirement registry from the package's own data files.

`spec/requirements.toml` has a table per requirement, `areas/<area>/clauses.toml` a table per clause; the clauses of one
requirement may stand in several areas:

    [M0-W-1300]                      # spec/requirements.toml
    title = "POST /execute"          # equals the heading in the pinned spec
    level = "MUST"

    [M0-W-1300.prompt-max]           # areas/requests/clauses.toml
    text = "…"                       # own words
    observable = "wire"

A clause inherits its requirement's level; `level_basis` is "keyword", `status` "active" and `min_evidence` 1 unless
said otherwise; the smallest profile follows from the observable. Everything wrong is reported at once, each complaint
with its file and key.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import defaultdict
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from m0_conformance.spec.requirements import (
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
from m0_conformance.spec.tables import TableReader, shape_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
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


HEADS = "spec/requirements.toml"


class RegistryError(ValueError):
    """The registry's files contradict each other or the pinned spec; `problems` lists every complaint."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the requirement registry is broken:\n" + "\n".join(f"  {problem}" for problem in problems))


@cache
def load_registry() -> Registry:
    """The registry shipped with this package. Raises RegistryError."""
    return read_registry(files("m0_conformance"))


def read_registry(root: Traversable) -> Registry:
    """Read `spec/` and `areas/` below `root` (this package's folder). Raises RegistryError with all complaints."""
    return _Reader(root).read()


class _Reader(TableReader):
    """Collects complaints while it turns tables into values."""

    def __init__(self, root: Traversable) -> None:
        super().__init__()
        self.root = root
        self.hash = hashlib.sha256()

    def read(self) -> Registry:
        lock = self.toml("spec/SPEC.lock.toml")
        passages = self.passages(lock)
        profiles = self.toml("spec/profiles.toml", "profiles")
        readings = self.toml("spec/readings.toml", "readings")
        retired = {str(key): str(value) for key, value in self.toml("spec/retired.toml").items()}
        heads = self.toml(HEADS, "requirements")
        areas = {area: self.toml(f"areas/{area}/clauses.toml", "clauses") for area in _areas(self.root / "areas", "")}
        if self.problems:
            raise RegistryError(self.problems)
        clauses = self.clauses(heads, areas)
        requirements: dict[str, Requirement] = {}
        for identifier, table in heads.items():
            requirement = self.requirement(HEADS, identifier, table, passages, tuple(clauses[identifier]))
            if requirement is not None:
                requirements[identifier] = requirement
        for identifier in sorted(set(passages) - set(heads)):
            self.complain(HEADS, identifier, "is a requirement of the spec, but no table accounts for it")
        registry = Registry(
            spec=SpecLock(
                repository=str(lock.get("repository", "")),
                path=str(lock.get("path", "")),
                commit=str(lock.get("commit", "")),
                sha256=str(lock.get("sha256", "")),
                lines=int(lock.get("lines", 0)),
            ),
            requirements=MappingProxyType(dict(sorted(requirements.items(), key=lambda item: _spec_order(item[0])))),
            readings=MappingProxyType(self.readings(readings)),
            profiles=MappingProxyType(self.profiles(profiles)),
            digest=self.hash.hexdigest(),
            retired=MappingProxyType(retired),
        )
        if (
            not self.problems
        ):  # a table that is missing because it is broken would be complained of wherever it is named
            self.cross_check(registry)
        if self.problems:
            raise RegistryError(self.problems)
        return registry

    def clauses(self, heads: dict[str, Any], areas: dict[str, dict[str, Any]]) -> dict[str, list[Clause]]:
        """The clauses of all areas by requirement, areas in the order of their names."""
        found: dict[str, list[Clause]] = defaultdict(list)
        home: dict[str, str] = {}
        for area, document in areas.items():
            where = f"areas/{area}/clauses.toml"
            for requirement, table in document.items():
                if requirement not in heads:
                    self.complain(where, requirement, f"has no table in {HEADS}")
                    continue
                for name, fields in table.items():
                    key = f"{requirement}/{name}"
                    if key in home:
                        self.complain(where, key, f"is already in {home[key]}")
                    else:
                        home[key] = where
                        head = heads[requirement]
                        found[requirement].append(self.clause(where, requirement, name, fields, head, area))
        return found

    # ---- files -----------------------------------------------------------------------------------------------------

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

    def toml(self, name: str, schema: str = "") -> dict[str, Any]:
        """A file's tables; whatever is not as the JSON Schema of that name says is complained of."""
        try:
            document = tomllib.loads(self.data(name).decode())
        except ValueError as error:  # TOMLDecodeError (which also finds duplicate keys) and UnicodeDecodeError
            self.complain(name, "", f"is no valid TOML: {error}")
            return {}
        if schema:
            text = (files("m0_conformance") / "spec" / f"{schema}.schema.json").read_text("utf-8")
            for key, words in shape_problems(json.loads(text), document):
                self.complain(name, key, words)
        return document

    def passages(self, lock: dict[str, Any]) -> dict[str, dict[str, Any]]:
        where = "spec/passages.json"
        try:
            document = json.loads(self.data(where))
        except ValueError as error:
            raise RegistryError([f"{where}: is no valid JSON: {error}"]) from error
        for key in ("repository", "path", "commit", "sha256", "lines"):
            if document.get(key) != lock.get(key):
                self.complain(
                    "spec/SPEC.lock.toml", key, f"is {lock.get(key)!r}, but {where} was made from {document.get(key)!r}"
                )
        return cast("dict[str, dict[str, Any]]", document["requirements"])

    def cross_check(self, registry: Registry) -> None:
        for clause in registry.clauses.values():
            where = f"areas/{clause.area}/clauses.toml"
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
            self.complain("areas", cycle, "depends on itself")


def _areas(folder: Traversable, prefix: str) -> Iterator[str]:
    """Names of the folders that hold a clauses.toml, as "requests"."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            if (entry / "clauses.toml").is_file():
                yield prefix + entry.name
            yield from _areas(entry, f"{prefix}{entry.name}/")


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

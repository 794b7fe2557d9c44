"""What the registry holds: requirements, their clauses, named readings and profiles, as frozen values.

A requirement is one heading of the M0 spec. It holds several obligations that can be seen apart, its *clauses*
(`M0-W-1300/prompt-max`); checks, judges and defects name clauses, people read the roll-up. Nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(StrEnum):
    """RFC 2119 level: a broken MUST is FAIL, a broken SHOULD is WARN, a MAY is INFO."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Basis(StrEnum):
    """How the level is known, so that nobody can say a MUST was invented."""

    KEYWORD = "keyword"
    """The passage uses the RFC 2119 word."""
    IMPERATIVE = "imperative"
    """The passage orders it in plain words or lists it under a MUST."""
    INFERRED = "inferred"
    """It follows from the passage, from another one or from a standard that the passage builds on."""


class Observable(StrEnum):
    """What an observer needs in order to see the clause kept or broken."""

    WIRE = "wire"
    CLI = "cli"
    PROCESS = "process"
    LOG = "log"
    TIMING = "timing"
    GPU = "gpu"
    WHITEBOX = "whitebox"
    DOCUMENT = "document"


class Disposition(StrEnum):
    """What the suite does about a clause (`status` in the registry files)."""

    ACTIVE = "active"
    """Judged, and it counts."""
    DISPUTED = "disputed"
    """Observed and reported, never counted: the spec leaves it open and no reading is stricter than another."""
    DEFERRED = "deferred"
    """The spec moves it to a later milestone; the profile m1-preview reports it without gating."""
    EXCLUDED = "excluded"
    """It binds no portable worker, or what it names no longer exists."""
    WHITEBOX = "whitebox"
    """True or false only inside the worker; the reason names the evidence that can exist there."""


class Mode(StrEnum):
    """How strictly disputed points are judged (`--disputes`)."""

    STRICT = "strict"
    LENIENT = "lenient"
    REPORT = "report"


Stance: TypeAlias = Literal["strict", "lenient", "deviation"]
"""Which mode accepts a variant: every mode, lenient and report, or only report."""

OUTSIDE = frozenset({Observable.WIRE, Observable.CLI, Observable.PROCESS, Observable.LOG, Observable.TIMING})
"""Observables that need neither a GPU nor the source: an active clause with one of them owes a check and a defect."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One obligation that a test can decide alone."""

    id: str
    """Requirement, slash, kebab-case name. Never reused."""
    requirement: str
    level: Level
    level_basis: Basis
    text: str
    observable: Observable
    status: Disposition
    profile: str
    """The smallest profile that holds it."""
    reason: str | None = None
    """Why it is not active; None for an active clause."""
    depends_on: tuple[str, ...] = ()
    """Clauses without which it cannot be judged: where one fails, this one is BLOCKED rather than FAIL."""
    min_evidence: int = 1
    """How many exchanges or launches a PASS must rest on at the least."""
    readings: tuple[str, ...] = ()
    """Names of the disputed points that decide how the clause is read."""
    note: str | None = None
    takes: str | None = None
    """What must be seen for a verdict; said where it was not."""
    no_defect: str | None = None
    """Why no seeded defect can turn it red; None where one must."""
    area: str = ""
    """The folder below `areas/` that holds its demand, check, judge and defects."""

    @property
    def name(self) -> str:
        """The part after the slash."""
        return self.id.partition("/")[2]

    @property
    def owes_check(self) -> bool:
        """An active clause without a check is a hole in the suite."""
        return self.status is Disposition.ACTIVE and (self.observable in OUTSIDE or self.observable is Observable.GPU)

    @property
    def owes_defect(self) -> bool:
        """An active clause that no seeded defect turns red is unproven, unless it needs a GPU or says why."""
        return self.status is Disposition.ACTIVE and self.observable in OUTSIDE and self.no_defect is None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One heading of the spec."""

    id: str
    title: str
    """The heading's title."""
    line: int
    """Line of the heading in the pinned file."""
    sha256: str
    """Digest of the passage, by the rule in passages.json."""
    level: Level
    scope: str
    """M0, M0-opt, M1 (deferred by the spec's scope section) or dead."""
    clauses: tuple[Clause, ...]
    reason: str | None = None
    """Why no clause of it is active; None where one is."""

    @property
    def active(self) -> bool:
        """Whether the suite judges any of it."""
        return any(clause.status is Disposition.ACTIVE for clause in self.clauses)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to read a disputed point, as something a target can be seen to do."""

    name: str
    text: str
    stance: Stance

    def accepted(self, mode: Mode) -> bool:
        """Whether this mode lets a target that follows the variant pass."""
        return self.stance == "strict" or mode is Mode.REPORT or (mode is Mode.LENIENT and self.stance == "lenient")


@dataclass(frozen=True, slots=True)
class Reading:
    """A point that the spec leaves open or says twice, and how the suite reads it."""

    name: str
    topic: str
    problem: str
    reading: str
    """What is tested."""
    variants: tuple[Variant, ...] = ()
    """Empty where there is nothing to choose between from outside."""
    default: str | None = None
    """The variant that strict mode judges by; None where it accepts several or none can be told apart."""

    def variant(self, name: str) -> Variant:
        """The variant of this name. Raises KeyError with the known names."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants) or "none"
        raise KeyError(f"{self.name} has no variant {name!r}; known: {known}")

    def accepts(self, variant: str, mode: Mode = Mode.STRICT) -> bool:
        """Whether a target that follows `variant` passes. Raises KeyError for an unknown variant."""
        return self.variant(variant).accepted(mode)


@dataclass(frozen=True, slots=True)
class Profile:
    """A set of clauses that one kind of situation can decide."""

    name: str
    title: str
    needs: str
    """What a situation must offer, in words that complete "needs …"."""
    includes: tuple[str, ...]
    gates: bool
    """Whether a verdict can rest on it."""
    next: str | None
    """The next larger profile."""


@dataclass(frozen=True, slots=True)
class SpecLock:
    """The one spec file that every statement here was written against."""

    repository: str
    path: str
    commit: str
    sha256: str
    lines: int


@dataclass(frozen=True)
class Registry:
    """All requirements, by identifier in the order of the spec's areas."""

    spec: SpecLock
    requirements: Mapping[str, Requirement]
    readings: Mapping[str, Reading]
    profiles: Mapping[str, Profile]
    digest: str
    """SHA-256 over the registry's files; part of every report."""
    retired: Mapping[str, str] = field(default_factory=dict)
    """Clause ids once used and why they ended; none may come back."""

    @cached_property
    def clauses(self) -> Mapping[str, Clause]:
        """Every clause by id."""
        return MappingProxyType(
            {clause.id: clause for requirement in self.requirements.values() for clause in requirement.clauses}
        )

    def in_profile(self, profile: str) -> tuple[Clause, ...]:
        """Every clause, whatever its status, whose smallest profile is `profile` or one that it includes.

        Raises KeyError for an unknown profile.
        """
        names = {profile, *self.profiles[profile].includes}
        return tuple(clause for clause in self.clauses.values() if clause.profile in names)

    def judged(self, profile: str) -> tuple[Clause, ...]:
        """The clauses that a verdict in `profile` rests on: its active ones (for m1-preview, the deferred ones)."""
        wanted = Disposition.ACTIVE if self.profiles[profile].gates else Disposition.DEFERRED
        return tuple(clause for clause in self.in_profile(profile) if clause.status is wanted)

    def missing_in(self, profile: str) -> tuple[Requirement, ...]:
        """Requirements with an active clause that only the next larger profile of `profile` decides."""
        larger = self.profiles[profile].next
        if larger is None:
            return ()
        have = {clause.id for clause in self.in_profile(profile)}
        lacking = {clause.requirement for clause in self.judged(larger) if clause.id not in have}
        return tuple(requirement for requirement in self.requirements.values() if requirement.id in lacking)

    def clauses_of_reading(self, name: str) -> tuple[Clause, ...]:
        """The clauses that a reading decides."""
        return tuple(clause for clause in self.clauses.values() if name in clause.readings)

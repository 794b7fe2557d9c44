"""Every operator at every site of the corpus against the pure judges, once."""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import operators_of_events
import operators_of_exchanges
import operators_of_identity
from m0_conformance.judging.finding import Status
from m0_conformance.judging.judge import evaluate, load_all
from transcript_edits import OPERATORS, corpus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from m0_conformance.recording.transcript import Recording

ALLOWED = Path(__file__).parent / "allowed.toml"
MODULES = (operators_of_events, operators_of_exchanges, operators_of_identity)
"""Imported for their operators."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Survivors that no judge can be asked to see."""

    operator: str
    where: str
    reason: str

    def covers(self, operator: str, where: str) -> bool:
        return fnmatch.fnmatchcase(operator, self.operator) and fnmatch.fnmatchcase(where, self.where)


@dataclass(slots=True)
class Results:
    """What became of every mutant."""

    killed: dict[str, int] = field(default_factory=dict)
    """By operator: some clause fails, warns or cannot be decided that was kept before."""
    withheld: dict[str, int] = field(default_factory=dict)
    """By operator: no clause fails, but one lost the evidence for its PASS, so that the verdict is PARTIAL."""
    unchanged: list[tuple[str, str]] = field(default_factory=list)
    """(operator, where): no status is worse."""
    allowed: list[tuple[str, str]] = field(default_factory=list)
    crashed: list[tuple[str, str, str]] = field(default_factory=list)
    identities: int = 0
    disturbed: list[tuple[str, str, str]] = field(default_factory=list)
    """Identities that made a status worse: (operator, where, what)."""
    used: set[Allowed] = field(default_factory=set)

    @property
    def mutants(self) -> int:
        return sum(self.killed.values()) + sum(self.withheld.values()) + len(self.unchanged) + len(self.allowed)

    @property
    def line(self) -> str:
        return (
            f"transcript operators: {self.mutants} mutants of {len(OPERATORS)} operators: "
            f"{sum(self.killed.values())} killed by a finding, {sum(self.withheld.values())} by a withheld PASS, "
            f"{len(self.allowed)} allowed, {len(self.unchanged)} survivors; "
            f"{self.identities} identities, {len(self.disturbed)} disturbed"
        )


def statuses(recording: Recording) -> dict[str, Status]:
    """The worst status of every clause that a judge spoke about; information left out."""
    found: dict[str, Status] = {}
    for finding in evaluate(recording):
        if finding.status is not Status.INFO:
            known = found.get(finding.clause, Status.NA)
            found[finding.clause] = min(known, finding.status, key=lambda status: status.severity)
    return found


def worse(before: Mapping[str, Status], after: Mapping[str, Status]) -> dict[str, Status]:
    """Clauses with a worse status than before; what was not judged before counts as kept."""
    return {
        clause: status
        for clause, status in after.items()
        if status.severity < min(before.get(clause, Status.PASS).severity, Status.PASS.severity)
    }


def read_allowed() -> list[Allowed]:
    entries = tomllib.loads(ALLOWED.read_text("utf-8"))["allowed"]
    return [Allowed(entry["operator"], entry["where"], entry["reason"]) for entry in entries]


def chosen(sites: Iterable[tuple[str, Recording]], limit: int) -> list[tuple[str, Recording]]:
    """At most so many of an operator's sites in one recording, evenly spaced."""
    every = list(sites)
    count = min(limit, len(every))
    return [every[len(every) * number // count] for number in range(count)]


def run_all(limit: int) -> Results:
    """Every operator in every recording, at no more than `limit` sites each."""
    load_all()
    allowed, results = read_allowed(), Results()
    for name, recording in corpus().items():
        before = statuses(recording)
        for entry in OPERATORS.values():
            for site, changed in chosen(entry.apply(recording), limit):
                where = f"{name}/{site}"
                found = worse(before, statuses(changed))
                if Status.ERROR in found.values():
                    results.crashed.append((entry.name, where, str(found)))
                if entry.identity:
                    results.identities += 1
                    if found:
                        results.disturbed.append((entry.name, where, str(found)))
                elif any(status is not Status.NOT_TESTED for status in found.values()):
                    results.killed[entry.name] = results.killed.get(entry.name, 0) + 1
                elif found:
                    results.withheld[entry.name] = results.withheld.get(entry.name, 0) + 1
                else:
                    covering = [one for one in allowed if one.covers(entry.name, where)]
                    results.used.update(covering)
                    (results.allowed if covering else results.unchanged).append((entry.name, where))
    return results

"""What a verdict is made from and what comes out: facts of the run, results of clauses, the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from m0_conformance.judging.finding import Finding, Status
from m0_conformance.spec.registry import Clause, Disposition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from m0_conformance.recording.transcript import Json
Verdict: TypeAlias = Literal["CONFORMANT", "NON_CONFORMANT", "PARTIAL", "INCONCLUSIVE"]


@dataclass(slots=True)
class RunFacts:
    """What the verdict must know besides the findings; everything here also stands in the report."""

    profile: str
    suite: dict[str, Json]
    target: dict[str, Json]
    run: dict[str, Json]
    collected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Every check there is, with its clauses; empty when unknown (rejudge)."""
    expected_checks: frozenset[str] | None = None
    """The frozen set for this profile; None while none is frozen."""
    known_checks: frozenset[str] = frozenset()
    """Every check that the frozen sets know, whatever its profile: one more than the profile asks for does no harm."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Older names of checks, for recordings made when they bore them."""
    filtered: bool = False
    interrupted: bool = False
    kill_matrix: Json = None
    reports: str = ""
    """The report folder, for replay lines."""


@dataclass(slots=True)
class ClauseResult:
    """One clause, rolled up."""

    clause: Clause
    status: Status
    reason: str | None
    findings: list[Finding] = field(default_factory=list)
    """Everything but passes, worst first, levels applied."""
    evidence: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """The whole result."""

    clauses: dict[str, ClauseResult]
    verdict: Verdict
    line: str
    report: dict[str, Json]

    @property
    def failures(self) -> list[Finding]:
        """Every FAIL finding of a clause that is FAIL: what the expected failures must account for."""
        return [
            finding
            for result in self.clauses.values()
            if result.status is Status.FAIL and result.clause.status is Disposition.ACTIVE
            for finding in result.findings
            if finding.status is Status.FAIL
        ]

"""What a reader must look at: findings and undecided clauses, what gates first, worst first."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from m0_conformance.report.view import all_clauses, in_force, outranks, profiles_within

if TYPE_CHECKING:
    from m0_conformance.report.document import Report
    from m0_conformance.report.view import Json

BAD = ("FAIL", "ERROR", "INCONCLUSIVE", "BLOCKED", "WARN")
"""Statuses that ask for a look."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding with its clause and requirement; or a clause with a bad status and no finding of its own."""

    requirement: Json
    clause: Json
    finding: Json | None
    gating: bool
    """Whether it can touch the verdict: an active clause of the judged profile."""
    times: int = 1
    """How many findings of the clause say the same."""

    @property
    def status(self) -> str:
        """The finding's own status, as the verdict weighed it; BLOCKED where the clause is, whatever was found."""
        if self.finding is None or self.clause["status"] == "BLOCKED":
            return str(self.clause["status"])
        return str(self.finding["status"])


def asked_for(report: Report, clause: str) -> bool:
    """Whether --requirement named this clause; without that option every clause was asked for."""
    globs = report["run"]["options"].get("requirement") or []
    return not globs or any(fnmatchcase(clause, glob) or fnmatchcase(clause.partition("/")[0], glob) for glob in globs)


def causes(report: Report) -> list[Json]:
    """What to mend first, of what was asked for; none for a report that was written before there were causes."""
    return [cause for cause in report.get("causes") or [] if any(asked_for(report, name) for name in cause["clauses"])]


def attention(report: Report) -> list[Problem]:
    """Everything a reader must look at, each once: what gates first, then worst first, then in the report's order."""
    judged = profiles_within(report["profile"])
    found = []
    for requirement, clause in all_clauses(report):
        if not asked_for(report, clause["id"]):
            continue
        gating = in_force(clause) and clause["profile"] in judged
        bad = [finding for finding in clause["findings"] if finding["status"] in BAD]
        same: dict[tuple[str, str], list[Json]] = {}
        for finding in bad:
            same.setdefault((finding["status"], finding["key"]), []).append(finding)
        found += [Problem(requirement, clause, group[0], gating, len(group)) for group in same.values()]
        if not bad and clause["status"] in BAD and in_force(clause):
            found.append(Problem(requirement, clause, None, gating))
    return sorted(found, key=lambda problem: (not problem.gating, outranks(problem.status)))


def check_of(report: Report, finding: Json | None) -> str:
    """Name of the check whose recording a finding points to; '' when unknown."""
    sha = finding["transcript"] if finding else None
    return str(report["recordings"].get(sha, "")) if sha else ""


def message_of(report: Report, finding: Json) -> str:
    """The finding's sentence without the name of its check, which stands beside it in every view."""
    check = check_of(report, finding)
    return str(finding["message"]).removeprefix(f"{check}: ") if check else str(finding["message"])


def headline(report: Report, problem: Problem) -> str:
    """One sentence: the message, else the reason, else what the clause asks; and how often it was seen."""
    said = message_of(report, problem.finding) if problem.finding else ""
    sentence = str(said or problem.clause["reason"] or problem.clause["text"])
    return sentence if problem.times == 1 else f"{sentence} ({problem.times} times)"

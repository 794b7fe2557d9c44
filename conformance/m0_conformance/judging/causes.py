"""What to mend first: broken clauses grouped under the causes that explain them, the deepest cause first.

The causes are data (`causes.toml`). A clause belongs to the first cause that tells of it or explains it; what no cause
claims is grouped by its requirement. Nothing here judges: statuses are the verdict's.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.judging.finding import Finding, Status
from m0_conformance.spec.requirements import Disposition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from m0_conformance.judging.outcome import ClauseResult

TABLE = Path(__file__).with_name("causes.toml")
BROKEN = (Status.FAIL, Status.WARN)


@dataclass(frozen=True, slots=True)
class Known:
    """A cause that findings can show."""

    name: str
    says: str
    mend: str
    told: tuple[tuple[str, str], ...]
    """(clause, key) patterns; a finding that fits one shows the cause."""
    explains: tuple[str, ...]
    needs: int

    def shows(self, finding: Finding) -> bool:
        """Whether this finding tells of it."""
        return any(fnmatchcase(finding.clause, clause) and fnmatchcase(finding.key, key) for clause, key in self.told)


@dataclass(slots=True)
class Cause:
    """A cause of this worker's, with what it explains."""

    name: str
    says: str
    mend: str
    clauses: list[str] = field(default_factory=list)
    findings: int = 0
    example: Finding | None = None
    """The first finding that shows it."""


@cache
def known_causes() -> tuple[Known, ...]:
    """All of the table, the deepest first."""
    return tuple(
        Known(
            name,
            entry["says"],
            entry["mend"],
            tuple((pair.split(" ")[0], pair.split(" ")[1]) for pair in entry["told"]),
            tuple(entry.get("explains", ())),
            entry.get("needs", 1),
        )
        for name, entry in tomllib.loads(TABLE.read_text("utf-8")).items()
    )


def causes_of(results: Mapping[str, ClauseResult], titles: Mapping[str, str]) -> list[Cause]:
    """The causes behind every broken clause in force; `titles` are the requirements'."""
    left = {
        name: [finding for finding in result.findings if finding.status in BROKEN]
        for name, result in results.items()
        if result.status in BROKEN and result.clause.status is Disposition.ACTIVE
    }
    found = []
    for known in known_causes():
        own = [name for name, findings in left.items() if any(known.shows(finding) for finding in findings)]
        if len(own) < known.needs:
            continue
        also = [name for name in left if name not in own and any(fnmatchcase(name, glob) for glob in known.explains)]
        found.append(_cause(known.name, known.says, known.mend, own, also, left))
    for name in list(left):
        if name in left:
            requirement = name.partition("/")[0]
            own = [other for other in left if other.partition("/")[0] == requirement]
            first = left[name][0].message if left[name] else ""
            found.append(_cause(requirement, titles.get(requirement, requirement), first, own, [], left))
    return found


def _cause(
    name: str, says: str, mend: str, own: list[str], also: Iterable[str], left: dict[str, list[Finding]]
) -> Cause:
    cause = Cause(name, says, mend)
    for clause in (*own, *also):
        findings = left.pop(clause)
        cause.clauses.append(clause)
        cause.findings += len(findings)
        cause.example = cause.example or next(iter(findings), None)
    return cause

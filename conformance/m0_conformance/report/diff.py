"""Two reports compared clause by clause: A added, D deleted, C changed, U unchanged.

A regression is something the worker does worse: a clause that both reports know has a worse status, or fails in a way
it did not fail before (another fingerprint). A clause that only one report knows is the suite's change, not the
worker's.
Exit code: 0 no regression, 1 regression.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from m0_conformance.report.text import one_line
from m0_conformance.report.view import Json, all_clauses, outranks, plural

if TYPE_CHECKING:
    from m0_conformance.report.document import Report

Letter: TypeAlias = Literal["A", "D", "C", "U"]

_GOOD = ("PASS", "NA", "INFO")
"""Among these a change is no regression."""
_LETTERS: dict[Letter, str] = {"A": "added", "D": "deleted", "C": "changed", "U": "unchanged"}


@dataclass(frozen=True, slots=True)
class Change:
    """One clause in both reports."""

    clause: str
    letter: Letter
    before: str | None
    after: str | None
    new_failures: tuple[str, ...] = ()
    """Fingerprints that fail now and did not before."""
    fixed: tuple[str, ...] = ()

    @property
    def regression(self) -> bool:
        """The worker got worse at a clause that both reports know."""
        if self.before is None or self.after is None:
            return False
        if self.new_failures:
            return True
        return self.after not in _GOOD and outranks(self.after) < outranks(self.before)


@dataclass(frozen=True, slots=True)
class Difference:
    """All clauses of both reports, in the order of the newer one."""

    changes: list[Change]
    verdicts: tuple[str, str]
    caveats: list[str] = field(default_factory=list)
    """What makes the two hard to compare."""

    @property
    def regressions(self) -> list[Change]:
        """Changes for the worse."""
        return [change for change in self.changes if change.regression]

    @property
    def exit_code(self) -> int:
        """1 with a regression, else 0."""
        return 1 if self.regressions else 0

    def count(self, letter: Letter) -> int:
        """How many clauses carry this letter."""
        return sum(change.letter == letter for change in self.changes)


def compare(before: Report, after: Report) -> Difference:
    """Compare two checked reports."""
    old = {clause["id"]: clause for _, clause in all_clauses(before)}
    new = {clause["id"]: clause for _, clause in all_clauses(after)}
    changes = [_change(name, old.get(name), clause) for name, clause in new.items()]
    changes += [_change(name, clause, None) for name, clause in old.items() if name not in new]
    return Difference(changes, (before["verdict"], after["verdict"]), _caveats(before, after))


def render_diff(difference: Difference) -> str:
    """Lines for a console: summary first, then everything that is not unchanged, regressions marked."""
    before, after = difference.verdicts
    worse = len(difference.regressions)
    counts = ", ".join(f"{difference.count(letter)} {word}" for letter, word in _LETTERS.items())
    out = [f"{before} -> {after}: {plural(worse, 'regression')}; {counts}"]
    out += [f"  note: {caveat}" for caveat in difference.caveats]
    ordered = sorted(difference.changes, key=lambda change: (not change.regression, "CADU".index(change.letter)))
    for change in ordered:
        if change.letter == "U":
            continue
        mark = "!" if change.regression else " "
        line = f"{mark} {change.letter}  {change.clause}  {change.before or '-'} -> {change.after or '-'}"
        if change.new_failures:
            line += "  new: " + ", ".join(change.new_failures)
        if change.fixed:
            line += "  gone: " + ", ".join(change.fixed)
        out.append(one_line(line, 300))
    return "\n".join(out) + "\n"


def _change(name: str, old: Json | None, new: Json | None) -> Change:
    if old is None:
        return Change(name, "A", None, new["status"] if new else None)
    if new is None:
        return Change(name, "D", old["status"], None)
    was, now = _failing(old), _failing(new)
    appeared, fixed = tuple(sorted(now - was)), tuple(sorted(was - now))
    same = old["status"] == new["status"] and not appeared and not fixed
    return Change(name, "U" if same else "C", old["status"], new["status"], appeared, fixed)


def _failing(clause: Json) -> set[str]:
    return {finding["key"] for finding in clause["findings"] if finding["status"] == "FAIL"}


def _caveats(before: Report, after: Report) -> list[str]:
    found = []
    if before["profile"] != after["profile"]:
        found.append(f"judged in different profiles: {before['profile']} and {after['profile']}")
    if before["spec"]["sha256"] != after["spec"]["sha256"]:
        found.append("judged against different revisions of the spec")
    if before["suite"]["testset_sha"] != after["suite"]["testset_sha"]:
        found.append("judged by different sets of checks")
    elif before["suite"]["registry_sha"] != after["suite"]["registry_sha"]:
        found.append("judged with different registries")
    if before["target"]["device"] != after["target"]["device"]:
        found.append(f"ran on different devices: {before['target']['device']} and {after['target']['device']}")
    return found

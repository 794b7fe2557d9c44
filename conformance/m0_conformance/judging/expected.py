"""Expected failures: deviations a team knows and has not mended yet.

    [[expected]]
    clause = "M0-W-1340/sigterm-idle"
    fingerprint = "exit-late"     # stable prefix of the finding's key; another failure of the clause is unexpected
    reason = "the worker drains its queue first"
    until = "2027-01-31"          # from the day after, the entry fails the run
    flaky = false                 # true: may also pass

An entry that did not happen is stale, one that names no clause is unmatched, one past its day is expired: each fails
the run, so the list can only shrink. Expected failures keep CI green and never make a worker CONFORMANT.
"""

from __future__ import annotations

import datetime as dt
import difflib
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m0_conformance.judging.outcome import Outcome
    from m0_conformance.recording.transcript import Json
    from m0_conformance.spec.registry import Registry

_KEYS = {"clause", "fingerprint", "reason", "until", "flaky", "issue"}


class ExpectError(ValueError):
    """The file of expected failures cannot be used; the message lists every complaint."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One entry."""

    clause: str
    fingerprint: str
    reason: str
    until: dt.date
    flaky: bool = False

    def covers(self, clause: str, key: str) -> bool:
        """Whether a failure is this one."""
        return clause == self.clause and key.startswith(self.fingerprint)

    def as_json(self) -> dict[str, Json]:
        """For the ledger."""
        return {
            "clause": self.clause,
            "fingerprint": self.fingerprint,
            "reason": self.reason,
            "until": self.until.isoformat(),
            "flaky": self.flaky,
        }


def read_expected(path: Path) -> list[Expected]:
    """Read the file. Raises ExpectError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ExpectError(f"--expected {path}: {error.strerror}") from error
    except ValueError as error:
        raise ExpectError(f"--expected {path} is no valid TOML: {error}") from error
    found, entries = [], []
    for number, entry in enumerate(document.get("expected", []), 1):
        problems = _problems(entry)
        found += [f"entry {number}: {problem}" for problem in problems]
        if not problems:
            until = entry["until"] if isinstance(entry["until"], dt.date) else dt.date.fromisoformat(entry["until"])
            flaky = entry.get("flaky", False)
            entries.append(Expected(entry["clause"], entry["fingerprint"], entry["reason"], until, flaky))
    found += [f"unknown table {key!r}; write [[expected]]" for key in document if key != "expected"]
    if found:
        raise ExpectError(f"--expected {path}: " + "; ".join(found))
    return entries


def _problems(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["is no table"]
    found = [f"unknown key {key!r}{_hint(key)}" for key in sorted(set(entry) - _KEYS)]
    found += [
        f"needs a string in {key!r}"
        for key in ("clause", "fingerprint", "reason")
        if not isinstance(entry.get(key), str) or not entry[key].strip()
    ]
    if str(entry.get("reason", "")).strip().upper() in {"TODO", "FIXME"}:
        found.append("the reason is still to be written")
    try:
        if not isinstance(entry.get("until"), dt.date):
            dt.date.fromisoformat(str(entry.get("until")))
    except ValueError:
        found.append("needs a day in 'until', as \"2027-01-31\"")
    if not isinstance(entry.get("flaky", False), bool):
        found.append("'flaky' is true or false")
    return found


def _hint(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, 1)
    return f", did you mean {near[0]!r}?" if near else ""


@dataclass(slots=True)
class Ledger:
    """What was expected against what happened."""

    expected: list[dict[str, Json]] = field(default_factory=list)
    unexpected: list[dict[str, Json]] = field(default_factory=list)
    stale: list[dict[str, Json]] = field(default_factory=list)
    unmatched: list[dict[str, Json]] = field(default_factory=list)
    expired: list[dict[str, Json]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Every failure was expected and every expectation came true in time."""
        return not (self.unexpected or self.stale or self.unmatched or self.expired)

    @classmethod
    def of(
        cls, entries: Sequence[Expected], outcome: Outcome, registry: Registry, today: dt.date | None = None
    ) -> Ledger:
        """Compare. `today` is for tests."""
        day = today or dt.datetime.now(dt.UTC).date()
        ledger = cls()
        failures = {(finding.clause, finding.key): finding for finding in outcome.failures}
        # A check may show more than the profile asks for; that may be listed, and need not be.
        gating = {clause.id for clause in registry.in_profile(str(outcome.report["profile"]))}
        used: set[int] = set()
        for (clause, key), finding in failures.items():
            number = next((i for i, entry in enumerate(entries) if entry.covers(clause, key)), None)
            if number is None and clause not in gating:
                continue
            if number is None:
                ledger.unexpected.append({"clause": clause, "key": key, "message": finding.message})
            else:
                used.add(number)
                ledger.expected.append({**entries[number].as_json(), "key": key})
        for number, entry in enumerate(entries):
            if entry.clause not in registry.clauses:
                near = difflib.get_close_matches(entry.clause, registry.clauses, 1)
                hint = f"did you mean {near[0]}?" if near else "no such clause"
                ledger.unmatched.append({**entry.as_json(), "hint": hint})
            elif number not in used and not entry.flaky:
                ledger.stale.append(entry.as_json())
            if entry.until < day:
                ledger.expired.append(entry.as_json())
        return ledger

    def as_json(self) -> dict[str, Json]:
        """report.json's `expected_ledger`."""
        return {
            "clean": self.clean,
            "expected": self.expected,
            "unexpected": self.unexpected,
            "stale": self.stale,
            "unmatched": self.unmatched,
            "expired": self.expired,
        }

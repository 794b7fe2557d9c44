"""What every view shows of a report: counts in words, the ladder of profiles, failures first, what is hidden.

Nothing here judges: statuses and the verdict come from the report as they stand; this module counts, groups and names.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from m0_conformance.report.document import Report

Json: TypeAlias = dict[str, Any]

LADDER = ("m0-wire", "m0-process", "m0")
"""The nested profiles, smallest first."""
SURFACE = {
    "m0-wire": "a URL is enough: HTTP and the event stream",
    "m0-process": "the suite starts the command: arguments, start-up, logs, signals, probe models",
    "m0": "the same on an NVIDIA host: VRAM, residency, out of memory, kernels",
    "m1-preview": "what the spec defers to M1; it never gates",
}
LEVELS = ("MUST", "SHOULD", "MAY")
STATUSES = ("FAIL", "ERROR", "INCONCLUSIVE", "BLOCKED", "NOT_TESTED", "WARN", "PASS", "NA", "INFO")
"""Worst first, as the roll-up orders them."""
DISPOSITIONS = ("active", "disputed", "deferred", "whitebox", "excluded")
WORDS = {
    "FAIL": "failed",
    "ERROR": "harness error",
    "INCONCLUSIVE": "inconclusive",
    "BLOCKED": "blocked",
    "NOT_TESTED": "not tested",
    "WARN": "warning",
    "PASS": "passed",
    "NA": "not applicable",
    "INFO": "recorded",
}
VERDICT_WORDS = {
    "CONFORMANT": "Conformant",
    "NON_CONFORMANT": "Not conformant",
    "PARTIAL": "Partial",
    "INCONCLUSIVE": "Inconclusive",
}
DISPOSITION_WORDS = {
    "active": "in force",
    "disputed": "disputed: observed, never counted",
    "deferred": "deferred to M1 by the spec",
    "whitebox": "visible only in the worker's source or build",
    "excluded": "excluded",
}
_REASONS = 3


@dataclass(frozen=True, slots=True)
class Tally:
    """Clauses of one level in the judged profile."""

    level: str
    counts: Mapping[str, int]

    @property
    def passed(self) -> int:
        """Clauses that passed."""
        return self.counts.get("PASS", 0)

    @property
    def applicable(self) -> int:
        """Clauses that count for this worker: all but NA and those only recorded (INFO)."""
        return sum(self.counts.values()) - self.counts.get("NA", 0) - self.counts.get("INFO", 0)

    @property
    def rest(self) -> str:
        """'2 failed, 1 blocked', worst first; '' when every applicable clause passed."""
        return ", ".join(
            f"{self.counts[status]} {WORDS[status]}"
            for status in STATUSES
            if status not in ("PASS", "NA") and self.counts.get(status)
        )

    def __str__(self) -> str:
        rest = f" ({self.rest})" if self.rest else ""
        return f"{self.level} {self.passed}/{self.applicable}{rest}" if self.applicable else f"{self.level} none{rest}"


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of the ladder of profiles."""

    name: str
    surface: str
    state: Literal["judged", "included", "beyond"]
    requirements: int
    """Requirements with a clause that this profile is the first to hold."""
    clauses: Mapping[str, int]
    """Those clauses by status; only what is in force."""
    lacks: str
    """What this run lacked to judge it; '' where nothing was lacking."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Requirements that no test from outside can decide, with the kind of reason."""

    why: str
    ids: tuple[str, ...]


def tallies(report: Report) -> list[Tally]:
    """MUST, SHOULD, MAY of the judged profile; a level without clauses is left out."""
    by_level = report["summary"]["by_level"]
    return [Tally(level, by_level[level]) for level in LEVELS if sum(by_level.get(level, {}).values())]


def all_clauses(report: Report) -> Iterator[tuple[Json, Json]]:
    """(requirement, clause) in the spec's order."""
    for requirement in report["requirements"]:
        for clause in requirement["clauses"]:
            yield requirement, clause


def ladder(report: Report) -> list[Step]:
    """The nested profiles with what was judged in each, and what was lacking for the rest."""
    judged = report["profile"]
    reach = LADDER.index(judged) if judged in LADDER else -1
    following = report["next_profile"] or {}
    steps = []
    for index, name in enumerate(LADDER):
        mine = [(r, c) for r, c in all_clauses(report) if c["profile"] == name and in_force(c)]
        state: Literal["judged", "included", "beyond"] = (
            "judged" if index == reach else "included" if index < reach else "beyond"
        )
        lacks = ""
        if state == "beyond":
            lacks = following.get("lacks", "") if following.get("name") == name else "not reached in this run"
        steps.append(
            Step(
                name=name,
                surface=SURFACE[name],
                state=state,
                requirements=(
                    following["requirements"] if following.get("name") == name else len({r["id"] for r, _ in mine})
                ),
                clauses=ordered(Counter(c["status"] for _, c in mine)),
                lacks=lacks,
            )
        )
    return steps


def preview(report: Report) -> Mapping[str, int]:
    """Clauses of the deferred bundle by status: shown beside the ladder, never part of a verdict."""
    return ordered(Counter(c["status"] for _, c in all_clauses(report) if c["profile"] == "m1-preview"))


def in_force(clause: Json) -> bool:
    """Whether the clause counts for a verdict once its profile is judged; a disputed one is only observed."""
    return bool(clause["disposition"] == "active")


def outranks(status: str) -> int:
    """0 for the worst status: a key to sort by."""
    return STATUSES.index(status)


def ordered(counts: Mapping[str, int]) -> dict[str, int]:
    """The same counts, worst status first, zeros dropped."""
    return {status: counts[status] for status in STATUSES if counts.get(status)}


def untested_reasons(report: Report) -> list[tuple[str, int]]:
    """Why clauses of the judged profile were not tested, the commonest reason first."""
    judged = profiles_within(report["profile"])
    counts = Counter(
        str(clause["reason"])
        for _, clause in all_clauses(report)
        if in_force(clause) and clause["profile"] in judged and clause["status"] == "NOT_TESTED"
    )
    return counts.most_common()


def profiles_within(profile: str) -> tuple[str, ...]:
    """The profile and those it includes."""
    return LADDER[: LADDER.index(profile) + 1] if profile in LADDER else (profile,)


def gates(requirement: Json) -> bool:
    """Whether any clause of it can ever touch a verdict."""
    return any(in_force(clause) for clause in requirement["clauses"])


def ledger_sentences(report: Report) -> list[str]:
    """What the file of expected failures said and what happened; [] without such a file."""
    ledger = report.get("expected_ledger")
    if not ledger:
        return []
    words = {
        "expected": "happened as expected",
        "unexpected": "unexpected",
        "stale": "expected but did not happen: remove the entry",
        "unmatched": "name no clause",
        "expired": "past their day",
    }
    counts = [f"{len(ledger[name])} {text}" for name, text in words.items() if ledger[name]]
    return ["expected failures: " + (", ".join(counts) if counts else "none listed")]


def unseen(report: Report) -> list[Unseen]:
    """Requirements without any clause that shows from outside, grouped by why."""
    groups: dict[str, list[str]] = {}
    for requirement in report["requirements"]:
        kinds = {_hidden(clause) for clause in requirement["clauses"]}
        if "" not in kinds and kinds:
            why = min(kinds, key=_HIDDEN_ORDER.index)
            groups.setdefault(why, []).append(requirement["id"])
    return [Unseen(why, tuple(groups[why])) for why in _HIDDEN_ORDER if why in groups]


_HIDDEN_ORDER = [
    "decided only by reading the worker's source or build",
    "a statement about documents",
    "excluded: dead in the spec or not applicable",
]


def _hidden(clause: Json) -> str:
    if clause["disposition"] == "excluded":
        return _HIDDEN_ORDER[2]
    if clause["observable"] == "document":
        return _HIDDEN_ORDER[1]
    if clause["disposition"] == "whitebox" or clause["observable"] == "whitebox":
        return _HIDDEN_ORDER[0]
    return ""


def summary_sentences(report: Report) -> list[str]:
    """The counts in words, one sentence each; no percentage, by decision."""
    dispositions = report["summary"]["by_disposition"]
    total = len(report["requirements"])
    lines = ["; ".join(str(tally) for tally in tallies(report)) or "no clause was judged"]
    by_status = ordered(report["summary"]["by_status"])
    lines.append(f"{total} requirements: " + ", ".join(f"{n} {WORDS[status]}" for status, n in by_status.items()))
    if untested := untested_reasons(report):
        parts = ", ".join(f"{plural(n, 'clause')} ({reason})" for reason, n in untested[:_REASONS])
        rest = sum(n for _, n in untested[_REASONS:])
        lines.append(f"not tested in {report['profile']}: {parts}" + (f", {rest} for other reasons" if rest else ""))
    if disputed := dispositions.get("disputed", 0):
        lines.append(f"{plural(disputed, 'clause')} disputed: observed and listed under readings, never counted")
    if deferred := dispositions.get("deferred", 0):
        lines.append(f"{plural(deferred, 'clause')} deferred to M1 by the spec: never gating")
    hidden = unseen(report)
    if hidden:
        parts = ", ".join(f"{len(group.ids)} {group.why}" for group in hidden)
        lines.append(
            f"{sum(len(group.ids) for group in hidden)} of {total} requirements not visible from outside: {parts}"
        )
    lines += ledger_sentences(report)
    if following := report["next_profile"]:
        lines.append(
            f"next profile {following['name']} lacks {following['lacks']}: "
            f"{plural(following['requirements'], 'requirement')} not tested"
        )
    return lines


def plural(n: int, noun: str) -> str:
    """'1 clause', '2 clauses', '1,024 clauses'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def target_name(report: Report) -> str:
    """Where the worker was: its URL, or the command that was started."""
    target = report["target"]
    return str(target.get("url") or target.get("command") or target["kind"])

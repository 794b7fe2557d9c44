"""What a judge says: one finding about one clause, with its place in the recording.

Statuses are ordered, worst first, and the worst wins wherever findings meet (Kubernetes and OCI conformance call this a
monotone set: a status can only get worse). A judge yields `ok(…)` for every time it saw the clause kept: those are the
evidence a PASS must name. No finding at all means that nothing was seen: NOT_TESTED, never PASS.

A judge does not know levels. It says FAIL where the clause is broken; the verdict turns that into WARN for a SHOULD
and INFO for a MAY.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from m0_conformance.recording.transcript import Json


class Status(StrEnum):
    """Outcome of a clause, a requirement or a finding; `worst` knows the order."""

    FAIL = "FAIL"
    ERROR = "ERROR"
    INCONCLUSIVE = "INCONCLUSIVE"
    BLOCKED = "BLOCKED"
    NOT_TESTED = "NOT_TESTED"
    WARN = "WARN"
    PASS = "PASS"  # noqa: S105 - a verdict, no password
    NA = "NA"
    INFO = "INFO"

    @property
    def severity(self) -> int:
        """0 for the worst."""
        return _ORDER[self]


_ORDER = {status: index for index, status in enumerate(Status)}


def worst(statuses: Iterable[Status], default: Status = Status.NOT_TESTED) -> Status:
    """The worst of them; `default` for none. INFO never outweighs anything."""
    return min(statuses, key=lambda status: status.severity, default=default)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a recording: exchange (or launch), SSE event number, body byte, milliseconds since its start."""

    exchange: str | None = None
    event: int | None = None
    byte: int | None = None
    t_ms: float | None = None
    launch: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Keys of report.json's `at`."""
        value: dict[str, Json] = {
            "exchange": self.exchange,
            "event": self.event,
            "byte": self.byte,
            "t_ms": None if self.t_ms is None else round(self.t_ms, 3),
        }
        if self.launch is not None:
            value["launch"] = self.launch
        return value


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about one clause."""

    clause: str
    """Filled in by the registry of judges; a judge of several clauses sets it itself."""
    status: Status
    key: str
    """Stable fingerprint: names the kind of deviation and never holds a number, id or text of the target."""
    message: str = ""
    """One sentence a person can act on."""
    expected: str = ""
    actual: str = ""
    at: Place | None = None
    lines: tuple[str, ...] = ()
    """The lines around it; the one in question starts with "> ", the others with two spaces."""
    exchanges: tuple[str, ...] = ()
    """Ids of the exchanges (or labels of launches) this finding rests on: the evidence."""
    events: int = 0
    """How many SSE events, log lines or samples were looked at."""
    caused_by: str | None = None
    """Clause whose failure explains this one; set by the verdict, or by a judge that knows."""
    reading: tuple[str, str] | None = None
    """(name, observed): which reading of a disputed point this target follows, as ("E-2ND", "queued")."""
    check: str = ""
    recording: str = ""
    """SHA-256 of the recording; both filled in by whoever ran the judges."""
    judge: str = ""
    """Name of the judge function, likewise."""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """As the NDJSON lines and report.json carry it."""
        return {
            "clause": self.clause,
            "status": self.status.value,
            "key": self.key,
            "message": self.message,
            "expected": self.expected,
            "actual": self.actual,
            "at": None if self.at is None else self.at.to_json(),
            "lines": list(self.lines),
            "exchanges": list(self.exchanges),
            "events": self.events,
            "caused_by": self.caused_by,
            "reading": None if self.reading is None else list(self.reading),
            "check": self.check,
            "recording": self.recording,
            "judge": self.judge,
        }

    def named(self, **changes: Any) -> Finding:
        """A copy with some fields replaced."""
        return replace(self, **changes)

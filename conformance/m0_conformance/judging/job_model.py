"""A model of an M0 worker as clients see it, small enough to be right: jobs are asked for, cancelled, left, and end.

Feed it what happened in the order of time; each method returns what no M0 worker does, as (clause, key, sentence), or
None. Where two things may have crossed on the wire the caller passes the time that excuses the worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Complaint: TypeAlias = tuple[str, str, str]
State: TypeAlias = Literal["unknown", "alive", "over"]
NOTICE_S = 5.0
"""How long a worker may take to notice that a client has gone."""


@dataclass(slots=True)
class Job:
    """One job_id."""

    over: bool = False
    cancelled: bool = False
    left_at: float | None = None
    beside: bool = False
    """A cancel that names another job was sent while this one ran or waited."""
    met: bool = False
    """Another job ran or waited when this one was asked for."""


@dataclass(slots=True)
class Model:
    """All jobs so far."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def asked(self, job: str) -> None:
        """A valid POST /execute was sent."""
        self.jobs[job] = Job(met=any(not other.over and other.left_at is None for other in self.jobs.values()))

    def cancel(self, job: str) -> State:
        """A POST /cancel was sent; returns what the worker can know of that job."""
        for name, other in self.jobs.items():
            other.beside = other.beside or (name != job and not other.over)
        known = self.jobs.get(job)
        if known is None:
            return "unknown"
        known.cancelled = True
        return "over" if known.over else "alive"

    def cancel_answered(self, state: State, status: int | None) -> Complaint | None:
        """What a cancel got: a job that runs is M0-W-1330/accepts' own."""
        if state == "alive" or status in {202, 404}:
            return None
        clause = "M0-W-1330/unknown-job" if state == "unknown" else "M0-W-1330/finished-job"
        return clause, f"{state}-job-answer", f"cancelling a job that is {state} is answered with neither 202 nor 404"

    def left(self, job: str, at: float) -> None:
        """Its client hung up."""
        self.jobs[job].left_at = at

    def refused(self, job: str, at: float) -> Complaint | None:
        """A valid job was turned away as one too many."""
        self.jobs[job].over = True
        busy = [other for other in self.jobs.values() if not other.over]
        if self.jobs[job].met or any(other.left_at is None or at - other.left_at < NOTICE_S for other in busy):
            return None
        return "M0-W-1300/streams", "busy-while-idle", "a valid job is turned away as one too many while nothing runs"

    def ended(self, job: str, kind: str, code: object) -> Complaint | None:
        """Its terminal event came."""
        known = self.jobs[job]
        known.over = True
        if kind == "end" or (known.cancelled and code == "CANCELLED"):
            return None
        if code == "CANCELLED":
            clause = "M0-W-1330/only-named-job" if known.beside else "M0-W-1330/finished-job"
            return clause, "cancelled-by-nobody", "a job that nobody cancelled ends with CANCELLED"
        return "M0-SYS-6.3.1/valid-job-ends", "valid-job-fails", "a valid job on a healthy worker ends with an error"


CONTROL = "control"

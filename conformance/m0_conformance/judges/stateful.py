"""The model of `m0_conformance.model` replayed over a recording of jobs, cancels and hang-ups in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from m0_conformance.judges.answers import BUSY, finished, job_of, steady
from m0_conformance.judges.registry import fail, invariant, ok
from m0_conformance.judges.views import Stream, describe, is_execute, streams
from m0_conformance.model import Complaint, Model, State
from m0_conformance.wire.transcript import Exchange, Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding

CLAUSES = (
    "M0-SYS-6.3.1/valid-job-ends",
    "M0-W-1330/unknown-job",
    "M0-W-1330/finished-job",
    "M0-W-1330/only-named-job",
    "M0-W-1330/next-job",
    "M0-W-1300/streams",
    "M0-W-1301/solo-equal",
    "M0-W-1301/after-disconnect",
)
CONTROL = "control"
Moment: TypeAlias = tuple[float, int, str, Exchange]
"""When, order among equals, what, whose."""


@invariant(*CLAUSES, on="recording")
def model(recording: Recording) -> Iterator[Finding]:
    """Only where the check says that every request is one the model knows."""
    if recording.facts.get("model") is not True:
        return
    views = {stream.exchange.id: stream for stream in streams(recording)}
    small, states = Model(), dict[str, State]()
    for at, _, what, exchange in sorted(_moments(recording, views), key=lambda moment: moment[:2]):
        complaint = _step(small, states, at, what, exchange, views)
        if complaint is not None:
            clause, key, message = complaint
            subject = views.get(exchange.id, exchange)
            actual = (
                describe(exchange)
                if exchange.id not in views or what == "answer"
                else views[exchange.id].events[-1].text
            )
            yield fail(subject, key, message, expected="what the model allows", actual=actual, clause=clause)
        elif what == "terminal" and views[exchange.id].terminals[0].kind == "end":
            yield ok(views[exchange.id], clause="M0-SYS-6.3.1/valid-job-ends")
        elif what == "answer" and states[exchange.id] == "unknown":
            yield ok(exchange, clause="M0-W-1330/unknown-job")
    yield from _texts(recording, views)


def _job(exchange: Exchange) -> str:
    return job_of(exchange) or ""


def _moments(recording: Recording, views: dict[str, Stream]) -> Iterator[Moment]:
    """A request counts from when it may have reached the worker, an answer from when it had reached us."""
    for exchange in recording.exchanges:
        closed = exchange.t0 + (exchange.closed_at or 0.0)
        if exchange.path == "/cancel":
            yield exchange.t0, 0, "cancel", exchange
            yield closed, 2, "answer", exchange
        elif is_execute(exchange):
            yield exchange.t0, 0, "ask", exchange
            view = views.get(exchange.id)
            if view is not None and view.terminal is not None:
                yield exchange.t0 + view.terminal.at, 1, "terminal", exchange
            elif exchange.end == "client-closed":
                yield closed, 1, "leave", exchange
            elif exchange.status in BUSY:
                yield closed, 1, "refused", exchange


def _step(
    small: Model, states: dict[str, State], at: float, what: str, exchange: Exchange, views: dict[str, Stream]
) -> Complaint | None:
    job = _job(exchange)
    if what == "ask":
        small.asked(job)
    elif what == "cancel":
        states[exchange.id] = small.cancel(job)
    elif what == "answer":
        return small.cancel_answered(states[exchange.id], exchange.status)
    elif what == "leave":
        small.left(job, at)
    elif what == "refused":
        return small.refused(job, at)
    else:
        terminal = views[exchange.id].terminals[0]
        return small.ended(job, terminal.kind, terminal.data.get("code"))
    return None


def _texts(recording: Recording, views: dict[str, Stream]) -> Iterator[Finding]:
    """Greedy jobs of one prompt: each text begins as the control's, whatever happened before or beside it."""
    control = steady(recording, CONTROL)
    if control is None:
        return
    whole = "".join(control)
    for exchange in recording.exchanges:
        view = views.get(exchange.id)
        if view is None or not finished(view) or exchange.label == CONTROL:
            continue
        text = view.text.rstrip("\ufffd")
        if not whole.startswith(text) and not text.startswith(whole):
            yield fail(
                view,
                "text-depends-on-others",
                "a greedy job's text depends on the jobs before or beside it",
                expected=repr(whole[: len(text)])[:160],
                actual=repr(text)[:160],
                clause=_blamed(recording, exchange),
            )


def _blamed(recording: Recording, exchange: Exchange) -> str:
    """The clause whose relation is broken: a job beside it, a client that left before it, a cancel before it."""
    begin, end = exchange.t0, exchange.t0 + (exchange.closed_at or 0.0)
    others = [other for other in recording.exchanges if is_execute(other) and other is not exchange]
    if any(other.t0 < end and other.t0 + (other.closed_at or 0.0) > begin for other in others):
        return "M0-W-1301/solo-equal"
    if any(other.end == "client-closed" and other.t0 < begin for other in others):
        return "M0-W-1301/after-disconnect"
    return "M0-W-1330/next-job"

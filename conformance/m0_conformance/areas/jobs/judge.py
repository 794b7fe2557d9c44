"""Judges of jobs that meet: one at a time, the second, the same job_id, clients that leave, any history."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from m0_conformance.judging import (
    Exchange,
    Findings,
    Recording,
    Stream,
    describe,
    fail,
    invariant,
    judge,
    note,
    ok,
    require,
    stream_of,
    streams,
)
from m0_conformance.judging.answers import BUSY, finished, job_of, repeats, steady
from m0_conformance.judging.job_model import CONTROL, Complaint, Model, State
from m0_conformance.judging.streams import (
    SURELY_BEGUN,
    alone_s,
    is_execute,
    lifetime,
    pace,
    runs_at,
    together,
    written_after,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


CLOSE = 0.2
"""Within this share of the time it had to wait, a second job's first event comes at the first one's end."""


def _never_ran(stream: Stream) -> bool:
    """A waiting job that was cancelled is told so at once (E-CANCEL2)."""
    return not stream.tokens and stream.terminal is not None and stream.terminal.kind == "error"


@invariant("M0-W-1301/no-interleave", on="recording")
def no_interleave(recording: Recording) -> Findings:
    """Of two jobs of one worker that meet, one has its terminal event before the other's first event."""
    if together(recording):
        yield from _served_meanwhile(recording)
        return
    hosts: dict[str, list[tuple[float, float, Stream]]] = defaultdict(list)
    for stream in streams(recording):
        window = lifetime(stream)
        if window is not None and not _never_ran(stream):
            hosts[stream.exchange.host].append((*window, stream))
    for jobs in hosts.values():
        jobs.sort(key=lambda job: job[:2])
        for number, (_, end, first) in enumerate(jobs):
            for begin, _, second in jobs[number + 1 :]:
                asked = second.exchange.t0 + (second.exchange.sent_at or 0.0)
                if asked >= end:
                    continue  # they did not meet
                clock = first.exchange.t0
                if written_after(first, begin - clock, end - clock) and not _ran_before(second, first):
                    yield fail(
                        second,
                        "interleaved",
                        "a second job yields events while the first still runs",
                        expected="no event before the first job's terminal event",
                        actual=f"first event {end - begin:.3f} s before the first job ({first.exchange.id}) was over",
                        at=second.events[0],
                    )
                    return
                if first.terminal is not None and end - begin <= (end - asked) * CLOSE:
                    yield ok(second)


def _served_meanwhile(recording: Recording) -> Findings:
    """Where all tokens come at the end: a second job's answer, whole, clearly before the running first one's."""
    for first in streams(recording, "running"):
        for second in streams(recording, "second"):
            asked = second.exchange.t0 + (second.exchange.sent_at or 0.0)
            if first.terminal is None or second.terminal is None or not runs_at(first, asked - first.exchange.t0):
                continue
            over = first.exchange.t0 + first.events[0].at
            early = over - (second.exchange.t0 + second.terminal.at)
            yield require(
                early < SURELY_BEGUN * alone_s(first),
                second,
                "served-meanwhile",
                "a second job is served while the first still runs",
                expected="no event before the first job's end",
                actual=f"all of it {early:.3f} s before the first job ({first.exchange.id}) had said anything",
            )


def _ran_before(job: Stream, other: Stream) -> bool:
    """All of a job may have lain ready before the other's first event: the two were only read in the other order."""
    window, others = lifetime(job), lifetime(other)
    if window is None or others is None:
        return False
    (begin, end), (other_begin, _) = window, others
    clock, other_clock = job.exchange.t0, other.exchange.t0
    if clock + (job.exchange.sent_at or 0.0) >= other_begin:
        return False  # it was asked for when the other's first event was here
    late = written_after(job, other_begin - clock, end - clock)
    return not late and not written_after(other, other_begin - other_clock, begin - other_clock)


def overlap(first: Stream, second: Exchange) -> bool:
    """The second request was sent before half of the first job's tokens had come: their meeting will show."""
    asked = second.t0 + (second.sent_at or 0.0) - first.exchange.t0
    if together(first.recording):
        return runs_at(first, asked)
    tokens = first.tokens
    return bool(tokens) and tokens[0].at < asked < tokens[len(tokens) // 2].at


def _met(recording: Recording, first_label: str, second_label: str) -> Iterator[tuple[Stream, Exchange]]:
    """A running job and a request that reached the worker before that job's terminal event."""
    for first in streams(recording, first_label):
        for second in recording.labelled(second_label):
            asked = second.t0 + (second.sent_at or 0.0)
            window = lifetime(first)
            if window is None or first.terminal is None:
                continue
            if runs_at(first, asked - first.exchange.t0) if together(recording) else window[0] < asked < window[1]:
                yield first, second


@judge("M0-W-1301/second-answered")
def second_answered(recording: Recording) -> Findings:
    """Held or refused (E-2ND)."""
    for _, second in _met(recording, "running", "second"):
        if second.status == 200:
            view = next((stream for stream in streams(recording, "second") if stream.exchange is second), None)
            if view is None or not view.events:
                yield fail(
                    second,
                    "second-without-events",
                    "a second job is accepted and then gets no event",
                    expected="its stream after the first one's",
                )
                continue
            yield ok(second)
            yield note(second, "second-job", "a second job waits for its turn", reading=("E-2ND", "held"))
        elif second.status in BUSY:
            yield note(second, "second-job", "a second job is refused", reading=("E-2ND", "refused"))
            yield require(
                second.content_type == "application/json",
                second,
                "busy-not-json",
                "a second job is refused without JSON",
                expected="content-type: application/json",
            )
        elif second.status is None or second.status < 500:
            yield fail(
                second,
                "second-job-lost",
                "a second job that comes while one runs is neither held nor refused as busy",
                expected="200 and its stream later, or 503, 429, 409 with JSON",
            )


@judge("M0-W-1301/solo-equal")
def solo_equal(recording: Recording) -> Findings:
    """Both overlapping jobs against the same jobs alone."""
    for label, alone in (("running", "first alone"), ("second", "second alone")):
        expected = steady(recording, alone)
        for stream in streams(recording, label):
            if expected is None or not finished(stream):
                continue
            yield require(
                repeats(stream, expected),
                stream,
                "overlapping-job-differs",
                "a job that overlaps with another yields other tokens than alone",
                expected=repr(expected)[:160],
                actual=repr(stream.pieces)[:160],
            )


@judge("M0-W-1301/duplicate-active")
def duplicate_active(recording: Recording) -> Findings:
    """E-DUPJOB: any refusal or a second job; the running stream goes on to its own end."""
    for first, second in _met(recording, "running twin", "twin"):
        if second.status is None:
            yield fail(
                second,
                "twin-lost",
                "a job_id that is already running gets no answer",
                expected="4xx, 503, or a job of its own",
            )
            continue
        if second.status == 200:
            yield note(second, "twin", "an active job_id is a second job", reading=("E-DUPJOB", "second-job"))
        elif 400 <= second.status < 500:
            yield note(second, "twin", "an active job_id is refused", reading=("E-DUPJOB", "refused"))
        elif second.status != 503:
            continue
        expected = steady(recording, "twin alone")
        yield require(
            finished(first) and (expected is None or repeats(first, expected)),
            first,
            "running-twin-disturbed",
            "a second request with a running job's job_id disturbs the running stream",
            expected="its tokens, then end",
            actual=f"{len(first.tokens)} tokens, then {first.terminal.kind if first.terminal else 'nothing'}",
            at=first.terminal,
        )


def _abandoned(recording: Recording) -> list[Stream]:
    """What our client left; a worker that sends nothing before the end has not even sent a status."""
    found = recording.labelled("abandoned")
    return [stream_of(exchange, recording) for exchange in found if exchange.status in {200, None}]


@judge("M0-W-1301/after-disconnect")
def after_disconnect(recording: Recording) -> Findings:
    """The job after a client that hung up in the middle."""
    left = [
        stream for stream in _abandoned(recording) if stream.terminal is None and (stream.tokens or together(recording))
    ]
    expected = steady(recording, "undisturbed")
    if not left or expected is None:
        return
    for exchange in recording.labelled("next"):
        stream = next((one for one in streams(recording, "next") if one.exchange is exchange), None)
        if stream is not None and finished(stream) and stream.pieces == expected:
            yield ok(stream)
        elif exchange.status not in BUSY:
            yield fail(
                exchange,
                "next-job-suffers",
                "after a client hung up, the next job is not served as it should be",
                expected="all its tokens, then end",
                actual=describe(exchange) if stream is None else f"{len(stream.tokens)} tokens: {stream.text[:80]!r}",
            )


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

Moment: TypeAlias = tuple[float, int, str, Exchange]
"""When, order among equals, what, whose."""


@invariant(*CLAUSES, on="recording")
def model(recording: Recording) -> Findings:
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
        elif what == "answer" and states[exchange.id] == "unknown" and pace(recording).get("cancels") is not False:
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


def _texts(recording: Recording, views: dict[str, Stream]) -> Findings:
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

"""Judges of POST /cancel: running, waiting, finished and unknown jobs, and how soon."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

from m0_conformance.judging import (
    Exchange,
    Findings,
    Recording,
    Stream,
    describe,
    fail,
    invariant,
    judge,
    not_applicable,
    note,
    ok,
    require,
    streams,
    unsure,
)
from m0_conformance.judging.answers import broken, job_of, unanswered
from m0_conformance.judging.streams import pace, runs_at, together, written_after
from m0_conformance.judging.timing import MIN_SAMPLES, quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


PROMPT_S = 0.1
COMPLETE_S = 5.0
CLEARLY_FEWER = 0.9
GOES_ON = 16
"""Tokens after the answer to a cancel: whoever says so many has not looked at it."""
STEP = 2
"""The step that runs when a cancel comes may still be sent: a token, a terminal event."""
REFUSALS = frozenset({409, 429, 503})
"""A worker may refuse the second job instead of letting it wait (E-2ND)."""


def no_endpoint(recording: Recording) -> bool:
    """There is no POST /cancel at all: its 404 says nothing about a job."""
    return pace(recording).get("cancels") is False


def _cancels(recording: Recording, stream: Stream) -> list[Exchange]:
    """Cancels that name this stream's job, in order."""
    job = stream.request.get("job_id")
    named = [exchange for exchange in recording.exchanges if exchange.method == "POST" and exchange.path == "/cancel"]
    return [exchange for exchange in named if job_of(exchange) == job]


def _known_length(recording: Recording, stream: Stream) -> int:
    """Tokens of the same job where nobody cancelled it; 0 where the recording has none."""
    wanted = {**stream.request, "job_id": None}
    return max(
        (
            len(other.tokens)
            for other in streams(recording)
            if {**other.request, "job_id": None} == wanted and _ended(other) and not _cancels(recording, other)
        ),
        default=0,
    )


def _ended(stream: Stream) -> bool:
    """With `end`, and not because of a cancel."""
    terminal = stream.terminal
    return terminal is not None and terminal.kind == "end" and str(terminal.data.get("stop_reason")) != "CANCELLED"


def _whole(stream: Stream, known: int) -> bool:
    """Nothing cut it short, as far as can be seen: all the tokens it was asked for, or an end that may be its own."""
    asked = stream.request.get("max_tokens")
    return _ended(stream) and (not isinstance(asked, int) or len(stream.tokens) >= min(asked, known))


def met(stream: Stream, cancels: Iterable[Exchange], known: int = 0) -> float | None:
    """When one of these cancels met this running job, on the stream's own clock; None where none surely did.

    `known`: how many tokens the same job yields when nobody cancels it.
    """
    for cancel in cancels:
        if cancel.sent_at is None:
            continue
        at = cancel.t0 + cancel.sent_at - stream.exchange.t0
        terminal = stream.terminal
        if not runs_at(stream, at):
            continue
        if together(stream.recording):
            return at
        answered = at if cancel.head_at is None else cancel.t0 + cancel.head_at - stream.exchange.t0
        late = terminal is not None and written_after(stream, answered, terminal.at, in_flight=STEP)
        if terminal is not None and not late and _whole(stream, known):
            continue  # the job may have ended while the cancel was on its way
        return at
    return None


def _cancelled(recording: Recording) -> Iterator[tuple[Stream, float]]:
    """Jobs that a cancel met, with its moment; none where the check itself signalled the worker."""
    if any(launch.signals for launch in recording.launches):
        return
    for stream in streams(recording):
        cancels = _cancels(recording, stream)
        at = met(stream, cancels, _known_length(recording, stream)) if cancels else None
        if at is not None:
            yield stream, at


@invariant("M0-W-1330/accepts", on="recording")
def accepts(recording: Recording) -> Findings:
    """202 for a job that runs."""
    for stream, _ in _cancelled(recording):
        first = _cancels(recording, stream)[0]
        if first.status == 202 and not broken(first):
            yield ok(first)
        else:
            missing = no_endpoint(recording)
            yield fail(
                first,
                "no-cancel-endpoint" if missing else "cancel-not-202",
                "there is no POST /cancel: whatever is sent is answered alike"
                if missing
                else "cancelling a running job is not answered with 202",
                expected="HTTP 202",
            )


@invariant("M0-W-1330/cancelled-event", on="recording")
def cancelled_event(recording: Recording) -> Findings:
    """The terminal event is error CANCELLED. A stream without a terminal event is M0-W-1311's."""
    for stream, _ in _cancelled(recording):
        terminal = stream.terminal
        if terminal is None:
            continue
        code = terminal.data.get("code")
        if terminal.kind == "error" and code == "CANCELLED":
            yield ok(stream)
        else:
            yield fail(
                stream,
                "not-cancelled-event",
                "a cancelled job does not end with an error event of code CANCELLED",
                expected="error with code CANCELLED",
                actual=f"{terminal.kind} {code or ''}".strip(),
                at=terminal,
            )
            if terminal.kind == "end" and str(terminal.data.get("stop_reason", "")).upper() == "CANCELLED":
                yield note(
                    stream,
                    "cancel-reason-in-end",
                    "cancel is told as end with stop_reason",
                    reading=("E-CANCELREASON", "end"),
                )


def _asked(stream: Stream) -> object:
    return stream.request.get("max_tokens")


@judge("M0-SYS-6.3.5/stops-early")
def stops_early(recording: Recording) -> Findings:
    """Clearly fewer tokens than the same job yielded when nobody cancelled it."""
    for stream, at in _cancelled(recording):
        alike = (s for s in streams(recording, "uncancelled") if _asked(s) == _asked(stream) and s.terminal is not None)
        whole = max((len(s.tokens) for s in alike), default=0)
        before = sum(token.at < at for token in stream.tokens)
        if stream.exchange.label != "cancelled" or before >= CLEARLY_FEWER * whole:
            continue
        if len(stream.tokens) >= CLEARLY_FEWER * whole and _said_after(recording, stream) < GOES_ON:
            continue  # nearly ready when the cancel was answered: nobody can say whether it would have stopped
        yield require(
            len(stream.tokens) < CLEARLY_FEWER * whole,
            stream,
            "not-stopped",
            "the cancelled job went on as if nobody had cancelled it",
            expected=f"fewer than {CLEARLY_FEWER * whole:.0f} of the {whole} tokens of the uncancelled job",
            actual=f"{len(stream.tokens)} tokens, {before} of them before the cancel",
            seen=f"{len(stream.tokens)} of {whole} tokens",
        )


def _said_after(recording: Recording, stream: Stream) -> int:
    """Tokens that were surely sent after a cancel of their job had been answered."""
    answers = [cancel.t0 + cancel.head_at for cancel in _cancels(recording, stream) if cancel.head_at is not None]
    if not answers:
        return len(stream.tokens)
    answered = min(answers) - stream.exchange.t0
    return sum(written_after(stream, answered, token.at, in_flight=STEP) for token in stream.tokens)


@judge("M0-W-1330/idempotent")
def idempotent(recording: Recording) -> Findings:
    """The second cancel is answered like the first, and the stream still has one terminal event."""
    for stream, _ in _cancelled(recording):
        cancels = _cancels(recording, stream)
        if len(cancels) < 2 or cancels[0].status != 202:
            continue
        second = cancels[1]
        if second.status != 202:
            yield fail(
                second, "second-cancel-not-202", "the second cancel of a job is not answered like the first",
                expected="HTTP 202", actual=describe(second),
            )  # fmt: skip
        elif len(stream.terminals) == 1:
            yield ok(second)


@judge("M0-W-1330/unknown-job")
def unknown_job(recording: Recording) -> Findings:
    """202 or 404 for a job that never existed."""
    for exchange in recording.labelled("cancel of nobody"):
        yield from _accepted_or_unknown(recording, exchange, "unknown-job-answer", "a job that never existed")


def _accepted_or_unknown(recording: Recording, exchange: Exchange, key: str, whom: str) -> Findings:
    if exchange.status == 404 and no_endpoint(recording):
        return
    if exchange.status in (202, 404):
        yield ok(exchange)
        yield note(exchange, "unknown-job", f"cancelling {whom}", reading=("E-CANCEL1", str(exchange.status)))
    else:
        yield fail(exchange, key, f"cancelling {whom} is answered with neither 202 nor 404", expected="HTTP 202 or 404")


@judge("M0-W-1330/finished-job")
def finished_job(recording: Recording) -> Findings:
    """202 or 404, and nobody else is hit by it."""
    for exchange in recording.labelled("late cancel"):
        yield from _accepted_or_unknown(recording, exchange, "finished-job-answer", "a job that has ended")
    for stream in streams(recording, "next"):
        if stream.terminal is not None and stream.terminal.data.get("code") == "CANCELLED":
            yield fail(
                stream,
                "late-cancel-hit-next",
                "the cancel of an ended job ended the next one",
                expected="end",
                actual="error CANCELLED",
                at=stream.terminal,
            )


@judge("M0-W-1330/only-named-job")
def only_named_job(recording: Recording) -> Findings:
    """The running job does not end by a cancel that names another."""
    if no_endpoint(recording):
        return
    for stream in streams(recording, "bystander"):
        terminal = stream.terminal
        if terminal is None:
            continue
        yield require(
            terminal.data.get("code") != "CANCELLED",
            stream,
            "wrong-job-cancelled",
            "a cancel that names another job ended this one",
            expected="end",
            actual="error CANCELLED",
            at=terminal,
        )


def cancelled_in_time(recording: Recording, waiting: Stream) -> bool:
    """The cancel of a waiting job was answered before the terminal event of a job that ran since before it was asked.

    Without that, the waiting job may have had its turn before the cancel came.
    """
    asked = waiting.exchange.t0
    answers = [cancel.t0 + cancel.head_at for cancel in _cancels(recording, waiting) if cancel.head_at is not None]
    for running in streams(recording, "running"):
        if running.started is None or running.terminal is None:
            continue
        begin, end = (running.exchange.t0 + event.at for event in (running.started, running.terminal))
        before = runs_at(running, asked - running.exchange.t0) if together(recording) else begin < asked
        if before and any(answered < end for answered in answers):
            return True
    return False


@judge("M0-W-1330/waiting-job")
def waiting_job(recording: Recording) -> Findings:
    """CANCELLED and no token; not applicable to a worker that refuses a second job."""
    for exchange in recording.labelled("waiting"):
        if exchange.status in REFUSALS:
            yield not_applicable(exchange, "this worker refuses a second job instead of letting it wait")
    for stream in streams(recording, "waiting"):
        terminal = stream.terminal
        if terminal is None or not cancelled_in_time(recording, stream):
            continue
        yield require(
            not stream.tokens and terminal.data.get("code") == "CANCELLED",
            stream,
            "waiting-job-ran",
            "a job cancelled while it waited was not ended with CANCELLED before its first token",
            expected="error CANCELLED without a token",
            actual=f"{len(stream.tokens)} tokens, then {terminal.kind} {terminal.data.get('code', '')}".strip(),
            at=terminal,
        )


@judge("M0-W-1330/validates-body")
def validates_body(recording: Recording) -> Findings:
    """400 for each body without a usable job_id."""
    for exchange in recording.exchanges:
        if not exchange.label.startswith("malformed") or (
            exchange.status is None and not unanswered(exchange, recording)
        ):
            continue
        yield require(
            exchange.status == 400,
            exchange,
            "malformed-cancel-accepted",
            "a cancel without a usable job_id is not refused with 400",
            expected="HTTP 400",
            caused_by="M0-W-1330/accepts" if no_endpoint(recording) else None,
        )


@invariant("M0-W-1330/within-5s", on="recording")
def within_5s(recording: Recording) -> Findings:
    """From the cancel to the terminal event."""
    scale = float(recording.settings.get("timing_scale") or 1.0)
    for stream, at in _cancelled(recording):
        terminal = stream.terminal
        if terminal is None:
            continue
        delay = terminal.at - at
        yield require(
            delay <= COMPLETE_S * scale,
            stream,
            "cancel-took-too-long",
            "the terminal event of a cancelled job came too late",
            expected=f"within {COMPLETE_S * scale:g} s",
            actual=f"{delay:.2f} s",
            at=terminal,
            seen=f"{delay * 1000:.1f} ms",
        )


@judge("M0-W-1330/within-100ms")
def within_100ms(recording: Recording) -> Findings:
    """From the cancel to the last token: 100 ms, or the token at hand where tokens take longer.

    A busy machine delays some of the cancels, a slow worker all of them: late is what the median surely is.
    """
    scale = float(recording.settings.get("timing_scale") or 1.0)
    late: list[tuple[Stream, float, float]] = []
    shares: list[float] = []
    for stream, at in _cancelled(recording):
        if stream.terminal is None:
            continue
        times = [token.at for token in stream.tokens]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        allowed = max(PROMPT_S * scale, 2 * statistics.median(gaps) if gaps else 0.0)
        delay = stream.terminal.at - at
        shares.append(delay / allowed)
        if delay <= allowed:
            yield ok(stream, f"{delay * 1000:.1f} ms")
        else:
            late.append((stream, delay, allowed))
    surely = len(shares) >= MIN_SAMPLES and quantile(shares, 0.5).low > 1.0
    for stream, delay, allowed in late:
        yield (fail if surely else unsure)(
            stream,
            "slow-cancel",
            "the job did not stop promptly after its cancel",
            expected=f"within {allowed * 1000:.0f} ms",
            actual=f"{delay * 1000:.0f} ms; {len(late)} of {len(shares)} cancels were late",
            at=stream.terminal,
        )


@judge("M0-W-1330/next-job")
def next_job(recording: Recording) -> Findings:
    """The job after a cancelled one says what it said before it."""
    if not any(True for _ in _cancelled(recording)):
        return
    before = next((s for s in streams(recording, "short before") if s.terminal is not None), None)
    after = next(iter(streams(recording, "short after")), None)
    if before is None or after is None:
        for exchange in recording.labelled("short after"):
            if before is not None and exchange.status != 200:
                yield fail(
                    exchange, "next-job-refused", "the job after a cancelled one is not served", expected="a stream",
                    actual=describe(exchange),
                )  # fmt: skip
        return
    kinds = [None if stream.terminal is None else stream.terminal.kind for stream in (before, after)]
    if after.pieces == before.pieces and kinds[0] == kinds[1]:
        yield ok(after)
        return
    yield fail(
        after,
        "next-job-differs",
        "the job after a cancelled one does not yield what it yields otherwise",
        expected=repr("".join(before.pieces))[:120],
        actual=f"{''.join(after.pieces)!r:.120}, ended by {after.terminal.kind if after.terminal else 'nothing'}",
    )

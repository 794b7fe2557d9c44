"""Judges of the event stream: content type, SSE framing, order of events, end of the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.contract import conforms
from m0_conformance.judging import (
    Exchange,
    Findings,
    Recording,
    Stream,
    fail,
    invariant,
    note,
    ok,
    require,
    unsure,
    warn,
)
from m0_conformance.judging.answers import killed_by_us, unanswered
from m0_conformance.judging.streams import KINDS, is_execute

if TYPE_CHECKING:
    from m0_conformance.recording.sse import Problem, ProblemKind


GRAMMAR: dict[ProblemKind, str] = {
    "bom": "a byte order mark stands before the first line: many clients read it as part of the first name",
    "lone-cr": "a line ends in a lone carriage return: line-based clients never see that end",
    "nul": "a NUL byte stands in the stream",
    "unknown-field": "a line is neither a comment nor one of the fields event, data, id, retry",
    "field-without-colon": "a field line has no colon",
    "repeated-event-field": "an event has two event fields",
    "event-without-data": "an event has no data: clients drop it silently",
}


def whole_problems(stream: Stream) -> list[Problem]:
    """Problems outside the fragment that is left where a connection broke."""
    return [problem for problem in stream.sse.problems if stream.complete or problem.event < len(stream.events)]


@invariant("M0-W-1310/sse-grammar")
def sse_grammar(stream: Stream) -> Findings:
    """Every deviation from the grammar but those that have clauses of their own; once per kind and stream."""
    seen: set[str] = set()
    for problem in whole_problems(stream):
        if problem.kind in GRAMMAR and problem.kind not in seen:
            seen.add(problem.kind)
            yield fail(
                stream,
                problem.kind,
                GRAMMAR[problem.kind],
                expected="lines `event: …`, `data: …`, `: comment`, a blank line after each event",
                actual=f"{problem.kind} {problem.detail}".strip() + f" at byte {problem.byte}",
                at=problem.byte,
            )
    if not seen and stream.events:
        yield ok(stream)


@invariant("M0-W-1310/last-event-complete")
def last_event_complete(stream: Stream) -> Findings:
    """Only where the server ended the body itself."""
    if not stream.complete or not stream.events:
        return
    last = stream.events[-1]
    yield require(
        last.raw.terminated,
        stream,
        "no-final-blank-line",
        "the last event has no blank line after it: a WHATWG client discards it",
        expected="a blank line after the last event",
        actual=f"the body ends at byte {stream.sse.size} inside the event",
        at=last,
    )


@invariant("M0-W-1310/utf8-bytes")
def utf8_bytes(stream: Stream) -> Findings:
    """A character cut by our own hanging up is not the worker's."""
    bad = [problem for problem in whole_problems(stream) if problem.kind == "ill-formed-utf8"]
    if bad:
        yield fail(
            stream,
            "ill-formed-utf8",
            "the stream's bytes are not well-formed UTF-8",
            expected="well-formed UTF-8",
            actual=f"bytes {bad[0].detail} at byte {bad[0].byte}",
            at=bad[0].byte,
        )
    elif stream.events:
        yield ok(stream)


@invariant("M0-W-1310/event-names")
def event_names(stream: Stream) -> Findings:
    """`[DONE]` and nameless events belong to the framing clause."""
    strange = [event for event in stream.events if event.kind not in KINDS and event.kind not in {"", "[DONE]"}]
    if strange:
        yield fail(
            stream,
            "unknown-event-name",
            "an event has a name that M0 does not know",
            expected="started, token, metrics, end or error",
            actual=f"{strange[0].kind!r}",
            at=strange[0],
        )
    elif stream.events:
        yield ok(stream)


@invariant("M0-W-1310/event-line")
def event_line(stream: Stream) -> Findings:
    """Reading E-FRAME: another dialect is named here, once, and nowhere else."""
    if not stream.events:
        return
    yield note(stream, f"dialect-{stream.dialect}", f"events are named: {stream.dialect}", reading=_reading(stream))
    nameless = [event for event in stream.events if not event.named]
    if not nameless:
        yield ok(stream)
        return
    first = nameless[0]
    mode = (stream.recording.settings.get("disputes") if stream.recording is not None else None) or "strict"
    speak = fail if mode == "strict" or stream.dialect != "json-type" else warn
    yield speak(
        stream,
        f"dialect-{stream.dialect}" if stream.dialect != "named" else "nameless-event",
        "the event's type does not stand in an `event:` line"
        + (", only in the JSON key `type`" if stream.dialect == "json-type" else ""),
        expected="a line `event: started` (token, metrics, end, error)",
        actual=first.text[:200],
        at=first,
    )


def _reading(stream: Stream) -> tuple[str, str]:
    both = stream.dialect == "named" and any("type" in event.data for event in stream.events)
    names = {"named": "event-line", "json-type": "json-type", "unnamed": "none", "silent": "none"}
    return "E-FRAME", "both" if both else names[stream.dialect]


CLOSE_S = 1.0
QUIET_S = 2.0
"""A stream that sent something this shortly before our patience ended was slow, not stuck."""


@invariant("M0-W-1311/started-first")
def started_first(stream: Stream) -> Findings:
    """The first event of any name."""
    if not stream.events:
        return
    first = stream.events[0]
    yield require(
        first.kind == "started",
        stream,
        "first-event-not-started",
        "the first event is not started",
        expected="started",
        actual=first.kind or "an event without a name",
        at=first,
    )


@invariant("M0-W-1311/started-once")
def started_once(stream: Stream) -> Findings:
    """Absence of started is `started-first`'s."""
    started = stream.of("started")
    if len(started) > 1:
        yield fail(
            stream,
            "started-again",
            "there is a second started event",
            expected="one started event",
            actual=f"{len(started)} started events",
            at=started[1],
        )
    elif started:
        yield ok(stream)


@invariant("M0-W-1311/one-terminal")
def one_terminal(stream: Stream) -> Findings:
    """Exactly one of end and error, in every stream that the worker ended or let us wait for in vain."""
    terminals = stream.terminals
    if len(terminals) > 1:
        yield fail(
            stream,
            "several-terminals",
            "there is more than one terminal event",
            expected="exactly one end or error",
            actual=", ".join(event.kind for event in terminals),
            at=terminals[1],
        )
    elif len(terminals) == 1:
        yield ok(stream)
    elif killed_by_us(stream) or stream.exchange.end in {"client-closed", "open"}:
        return
    elif stream.exchange.end == "timeout":
        last = stream.events[-1].at if stream.events else 0.0
        until = stream.exchange.closed_at or 0.0
        busy = until - last < QUIET_S and stream.events
        if busy:
            yield unsure(stream, "still-streaming", "tokens were still arriving when the harness stopped waiting")
        else:
            yield fail(
                stream,
                "stuck",
                "the stream stopped without a terminal event and was left open",
                expected="end or error",
                actual=f"silence from +{last:.1f} s on; the harness waited until +{until:.1f} s",
            )
    else:
        yield fail(
            stream,
            "no-terminal",
            "the stream ended without a terminal event",
            expected="exactly one end or error",
            actual=f"{len(stream.events)} events, then the connection ended ({stream.exchange.end})",
            at=stream.events[-1] if stream.events else None,
        )


@invariant("M0-W-1311/nothing-after-terminal")
def nothing_after_terminal(stream: Stream) -> Findings:
    """Comments may follow; events and loose data may not."""
    terminal = stream.terminal
    if terminal is None:
        return
    # A second terminal is `one-terminal`'s, the literal [DONE] is a dialect and so `event-line`'s.
    later = [event for event in stream.events[terminal.index + 1 :] if event.kind not in {"end", "error", "[DONE]"}]
    if later:
        what = "metrics" if later[0].kind == "metrics" else "event"
        yield fail(
            stream,
            f"{what}-after-terminal",
            f"something follows the terminal event {terminal.kind!r}",
            expected="the end of the body",
            actual=later[0].text[:200],
            at=later[0],
        )
    else:
        yield require(
            "bytes after the end of the message" not in stream.exchange.error,
            stream,
            "bytes-after-message",
            "bytes follow the end of the HTTP message on the same connection",
            expected="nothing more",
            actual=stream.exchange.error,
            at=terminal,
        )


@invariant("M0-W-1311/stream-closes")
def stream_closes(stream: Stream) -> Findings:
    """At most one second between the terminal event and the end of the body, and that end as the framing has it."""
    terminal = stream.terminal
    if terminal is None or terminal.kind not in KINDS or killed_by_us(stream):
        return
    exchange = stream.exchange
    closed = exchange.closed_at if exchange.closed_at is not None else terminal.at
    limit = CLOSE_S * _scale(stream)
    if exchange.end in {"client-closed", "open"}:
        if closed - terminal.at <= limit:
            return  # our own hanging up came first
    elif exchange.end == "reset":
        yield fail(
            stream,
            "broken-framing",
            "after the terminal event the connection breaks instead of the body ending",
            expected="the end that the framing announced (last chunk, content-length, or a clean close)",
            actual=exchange.error or "connection reset",
            at=terminal,
        )
        return
    if closed - terminal.at > limit:
        yield fail(
            stream,
            "body-stays-open",
            "the body does not end after the terminal event",
            expected=f"the end of the body within {limit:g} s",
            actual=f"open for {closed - terminal.at:.2f} s" + ("" if stream.complete else " and more"),
            at=terminal,
        )
    elif stream.complete:
        yield ok(stream)


def _scale(stream: Stream) -> float:
    return float(stream.recording.settings.get("timing_scale", 1.0)) if stream.recording is not None else 1.0


@invariant("M0-W-1300/streams", on="exchange")
def streams(exchange: Exchange, recording: Recording) -> Findings:
    """A 200 is announced as text/event-stream; 429, 409 and 503 to a valid job are the turnstile's right (E-2ND)."""
    if not is_execute(exchange) or not conforms("execute", exchange.request_json()):
        return
    if exchange.status is None:
        if unanswered(exchange, recording):
            yield fail(exchange, "no-answer", "a valid request gets no answer", expected="HTTP 200 and a stream")
        return
    if exchange.status == 200:
        yield require(
            exchange.content_type == "text/event-stream",
            exchange,
            "stream-content-type",
            "the stream is not announced as an event stream",
            expected="content-type: text/event-stream",
            actual=exchange.header("content-type") or "no content type",
        )
    elif 200 < exchange.status < 400 or exchange.status == 404:
        yield fail(exchange, "no-stream", "a valid request gets no event stream", expected="HTTP 200")

"""The event stream as bytes: M0-W-1310. Invariants, so every /execute stream of every check is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judges.registry import fail, invariant, note, ok, warn
from m0_conformance.judges.views import KINDS, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding
    from m0_conformance.wire.sse import Problem, ProblemKind

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
def sse_grammar(stream: Stream) -> Iterator[Finding]:
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
def last_event_complete(stream: Stream) -> Iterator[Finding]:
    """Only where the server ended the body itself."""
    if not stream.complete or not stream.events:
        return
    last = stream.events[-1]
    if last.raw.terminated:
        yield ok(stream)
    else:
        yield fail(
            stream,
            "no-final-blank-line",
            "the last event has no blank line after it: a WHATWG client discards it",
            expected="a blank line after the last event",
            actual=f"the body ends at byte {stream.sse.size} inside the event",
            at=last,
        )


@invariant("M0-W-1310/utf8-bytes")
def utf8_bytes(stream: Stream) -> Iterator[Finding]:
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
def event_names(stream: Stream) -> Iterator[Finding]:
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
def event_line(stream: Stream) -> Iterator[Finding]:
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

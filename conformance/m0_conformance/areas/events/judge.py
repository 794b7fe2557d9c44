"""Judges of what the events say: fields of started, token, end and error."""

from __future__ import annotations

import datetime as dt
import re

from m0_conformance.contract import has, must_be, required
from m0_conformance.judging import (
    Event,
    Exchange,
    Finding,
    Findings,
    Recording,
    Stream,
    fail,
    invariant,
    ok,
    parse_json,
    require,
)
from m0_conformance.judging.fields import CODES, is_integer, stated_code
from m0_conformance.judging.streams import is_execute

RFC3339_Z = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
CLOCK_S = 5.0
SLACK_MS = 50.0
SPREAD_S = 0.1


def _readable(stream: Stream, kind: str) -> list[Event]:
    """Events of a kind whose data is a JSON object; of others `json-object` says all there is to say."""
    return [event for event in stream.of(kind) if isinstance(event.json.value, dict)]


def _wrong(stream: Stream, event: Event, *fields: str, clause: str = "") -> list[Finding]:
    """A failure for every field that is missing, or not what the contract's schema says."""
    name = f"event.{event.kind}"
    return [
        fail(
            stream,
            f"{event.kind}-{field}",
            f"{event.kind} has no {field} that is {must_be(name, field)}",
            expected=f"{field}: {must_be(name, field)}",
            actual=f"{field}: {repr(event.data[field])[:80] if field in event.data else 'missing'}",
            at=event,
            clause=clause,
        )
        for field in fields
        if not has(name, event.data, field)
    ]


@invariant("M0-W-1312/json-object")
def json_object(stream: Stream) -> Findings:
    """The literal [DONE] is a dialect, judged as framing."""
    judged = [event for event in stream.events if event.raw.data is not None and event.kind != "[DONE]"]
    for event in judged:
        # Ill-formed bytes have a clause of their own; here only what JSON itself forbids.
        problems = [problem for problem in event.json.problems if not problem.startswith("ill-formed UTF-8")]
        if not isinstance(event.json.value, dict):
            problems.append("it is no object")
        if problems:
            yield fail(
                stream,
                "data-not-a-json-object",
                "an event's data is not one plain JSON object",
                expected="one JSON object (RFC 8259)",
                actual="; ".join(problems)[:200],
                at=event,
            )
            return
    if judged:
        yield ok(stream, events=len(judged))


@invariant("M0-W-1312/started-fields")
def started_fields(stream: Stream) -> Findings:
    """job_id, model, started_at."""
    for event in _readable(stream, "started"):
        yield from _wrong(stream, event, *required("event.started")) or [ok(stream)]


@invariant("M0-W-1312/started-job-id")
def started_job_id(stream: Stream) -> Findings:
    """The request's job_id comes back."""
    event, asked = stream.started, stream.request.get("job_id")
    if event is None or not isinstance(asked, str) or not isinstance(got := event.data.get("job_id"), str):
        return
    yield require(
        got == asked,
        stream,
        "other-job-id",
        "started names another job",
        expected=repr(asked)[:80],
        actual=repr(got)[:80],
        at=event,
    )


@invariant("M0-W-1312/started-at-format")
def started_at_format(stream: Stream) -> Findings:
    """RFC 3339 with Z."""
    event = stream.started
    if event is None or not isinstance(value := event.data.get("started_at"), str):
        return
    yield require(
        parse_time(value) is not None,
        stream,
        "started-at-format",
        "started_at is no RFC 3339 time in UTC",
        expected="2025-10-04T12:00:00Z",
        actual=repr(value)[:80],
        at=event,
    )


def parse_time(value: str) -> dt.datetime | None:
    """An RFC 3339 time with Z; None for anything else."""
    if RFC3339_Z.fullmatch(value) is None:
        return None
    try:
        return dt.datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value))
    except ValueError:
        return None


@invariant("M0-W-1312/started-at-now")
def started_at_now(stream: Stream) -> Findings:
    """Between the request and the event, give or take five seconds of clock difference."""
    event = stream.started
    moment = parse_time(str(event.data.get("started_at"))) if event is not None else None
    if event is None or moment is None:
        return
    begin = stream.exchange.started_at
    early, late = begin - CLOCK_S, begin + event.at + CLOCK_S
    yield require(
        early <= moment.timestamp() <= late,
        stream,
        "started-at-not-now",
        "started_at is not the time at which the job started",
        expected=f"within {CLOCK_S:g} s of {dt.datetime.fromtimestamp(begin, dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        actual=str(event.data.get("started_at"))[:80],
        at=event,
    )


@invariant("M0-W-1312/started-model")
def started_model(recording: Stream) -> Findings:
    """Not empty; equality with /health is judged where both were recorded."""
    stream = recording
    event = stream.started
    if event is None or not isinstance(model := event.data.get("model"), str):
        return
    if not model.strip():
        yield fail(
            stream, "empty-model", "started names no model", expected="the model's name", actual=repr(model), at=event
        )
        return
    known = _health_models(stream)
    if known and model not in known:
        yield fail(
            stream,
            "model-differs-from-health",
            "started and /health name different models",
            expected=f"one of {sorted(known)}",
            actual=repr(model)[:120],
            at=event,
        )
    elif known:
        yield ok(stream)


def _health_models(stream: Stream) -> set[str]:
    """Models named by /health of the same worker in this recording."""
    if stream.recording is None:
        return set()
    bodies = (
        parse_json(exchange.body).value
        for exchange in stream.recording.exchanges
        if exchange.path == "/health" and exchange.status == 200 and exchange.host == stream.exchange.host
    )
    return {body["model"] for body in bodies if isinstance(body, dict) and isinstance(body.get("model"), str)}


@invariant("M0-W-1312/token-fields")
def token_fields(stream: Stream) -> Findings:
    """T is a string (possibly empty), i an integer."""
    for event in _readable(stream, "token"):
        if wrong := _wrong(stream, event, *required("event.token")):
            yield wrong[0]
            return
    if stream.tokens:
        yield ok(stream, events=len(stream.tokens))


@invariant("M0-W-1312/token-index")
def token_index(stream: Stream) -> Findings:
    """0, 1, 2, … without gap or repetition."""
    for number, event in enumerate(stream.tokens):
        if is_integer(event.data.get("i")) and event.data["i"] != number:
            yield fail(
                stream,
                "first-index" if number == 0 else "index-gap",
                "i does not count the job's tokens from 0",
                expected=f"i: {number}",
                actual=f"i: {event.data['i']}",
                at=event,
            )
            return
    if any(is_integer(event.data.get("i")) for event in stream.tokens):
        yield ok(stream, events=len(stream.tokens))


@invariant("M0-W-1312/end-fields")
def end_fields(stream: Stream) -> Findings:
    """Both integers, not negative."""
    for event in _readable(stream, "end"):
        yield from _wrong(stream, event, *required("event.end")) or [ok(stream)]


@invariant("M0-W-1312/end-tokens-out")
def end_tokens_out(stream: Stream) -> Findings:
    """tokens_out against the token events that came."""
    event = stream.terminal
    if event is None or event.kind != "end" or not is_integer(event.data.get("tokens_out")):
        return
    told, seen = event.data["tokens_out"], len(stream.tokens)
    yield require(
        told == seen,
        stream,
        "tokens-out-differs",
        "tokens_out is not the number of token events",
        expected=str(seen),
        actual=str(told),
        at=event,
    )


@invariant("M0-W-1312/end-decode-time")
def end_decode_time(stream: Stream) -> Findings:
    """Not longer than the job as we saw it; not zero where the tokens came spread over time."""
    event = stream.terminal
    if event is None or event.kind != "end" or not is_integer(event.data.get("decode_time_ms")):
        return
    told: int = event.data["decode_time_ms"]
    seen_ms = event.at * 1000
    spread = stream.tokens[-1].at - stream.tokens[0].at if stream.tokens else 0.0
    if told < 0:
        return  # a value that no time can have is end-fields'
    if told > seen_ms + SLACK_MS:
        yield fail(
            stream,
            "decode-time-too-long",
            "decode_time_ms is longer than the whole job took",
            expected=f"at most {seen_ms:.0f} ms",
            actual=f"{told} ms",
            at=event,
        )
    else:
        yield require(
            spread < SPREAD_S or told != 0,
            stream,
            "decode-time-zero",
            "decode_time_ms is zero although the tokens came spread over time",
            expected=f"about {spread * 1000:.0f} ms",
            actual="0 ms",
            at=event,
        )


@invariant("M0-W-1312/error-fields", "M0-W-1500/code-set", "M0-W-1510/retriable")
def error_events(stream: Stream) -> Findings:
    """Code and message; code out of the stable set; retriable a boolean."""
    for event in _readable(stream, "error"):
        yield from _wrong(stream, event, "code", "message") or [ok(stream)]
        if has("event.error", event.data, "code"):
            yield _code(stream, event.data["code"], event)
        clause = "M0-W-1510/retriable"
        yield from _wrong(stream, event, "retriable", clause=clause) or [ok(stream, clause=clause)]


def _code(subject: Stream | Exchange, code: str, event: Event | None = None) -> Finding:
    clause = "M0-W-1500/code-set"
    if code in CODES:
        return ok(subject, clause=clause)
    return fail(
        subject,
        "unknown-code",
        "an error carries a code outside the stable set",
        expected=", ".join(sorted(CODES)),
        actual=repr(code)[:80],
        at=event,
        clause=clause,
    )


@invariant("M0-W-1500/code-set", on="exchange")
def refusal_code(exchange: Exchange, recording: Recording) -> Findings:  # noqa: ARG001 - the signature of "exchange"
    """The code of a refused request, wherever in its JSON it stands."""
    if not is_execute(exchange) or exchange.status is None or not 400 <= exchange.status < 600:
        return
    body = parse_json(exchange.body).value
    code = stated_code(body) if isinstance(body, dict) else None
    if code is not None:
        yield _code(exchange, code)

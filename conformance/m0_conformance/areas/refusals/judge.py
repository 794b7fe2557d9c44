"""Judges of what bad requests are answered with: status, JSON, codes, unknown routes."""

from __future__ import annotations

from m0_conformance.contract import conforms
from m0_conformance.judging import (
    Exchange,
    Findings,
    Recording,
    describe,
    fail,
    first_broken,
    invariant,
    judge,
    not_applicable,
    note,
    ok,
    parse_json,
    require,
    streams,
    warn,
)
from m0_conformance.judging.answers import (
    BUSY,
    broken,
    cases,
    finished,
    is_refusal,
    is_refused,
    member,
    refusal,
    steady,
    unanswered,
)
from m0_conformance.judging.fields import CODES, stated_code
from m0_conformance.judging.streams import is_execute

OWN_FAILURES = frozenset({"INSUFFICIENT_VRAM", "VRAM_OOM", "CUDA_ERROR", "INFERENCE_TIMEOUT"})
"""Failures to a valid job that have a 5xx status of their own in the spec's table of codes."""


def _invalid(exchange: Exchange) -> bool:
    return not conforms("execute", exchange.request_json())


def _well_formed(exchange: Exchange) -> bool:
    """HTTP that a server must answer; raw bytes may be hung up on."""
    return exchange.method in {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}


def _ended_on_purpose(exchange: Exchange, recording: Recording) -> bool:
    """The check sent a signal or asked for a shutdown, so connections may break."""
    signalled = any(launch.signals for launch in recording.launches if exchange.host.endswith(f":{launch.port}"))
    return signalled or any(other.path == "/shutdown" for other in recording.exchanges)


@invariant("M0-W-1302/never-5xx", on="exchange")
def never_5xx(exchange: Exchange, recording: Recording) -> Findings:
    """503 is a worker's right while it is busy or draining; every other 5xx to a client's input is a failure."""
    if exchange.status is None and exchange.end in {"reset", "garbage"} and _well_formed(exchange):
        if not _ended_on_purpose(exchange, recording):
            yield fail(
                exchange,
                "broken-connection",
                "a client's request broke the connection instead of being answered",
                expected="an HTTP answer",
                actual=f"{exchange.end}: {exchange.error}",
            )
        return
    if exchange.status is None or exchange.status < 500:
        return
    if exchange.status == 503:
        yield note(exchange, "status-503", "503: busy, draining or loading")
        return
    body = parse_json(exchange.body).value
    if is_execute(exchange) and isinstance(body, dict) and stated_code(body) in OWN_FAILURES and not _invalid(exchange):
        yield note(exchange, "status-by-code", "a failure known before the stream began is told by status (E-PRESTART)")
        return
    yield fail(
        exchange,
        "server-error",
        "the worker answered a client's request with a server error",
        expected="2xx or 4xx",
        actual=f"HTTP {exchange.status}: {exchange.body[:160].decode('utf-8', 'backslashreplace')!r}",
    )


_KINDS = {
    "value": "M0-W-1302/status-400",
    "type": "M0-W-1302/wrong-types",
    "number": "M0-W-1302/non-finite",
    "body": "M0-W-1302/malformed-json",
}


@invariant(*_KINDS.values(), on="recording")
def refusals(recording: Recording) -> Findings:
    """400 for whatever fails validation. A value served although it is out of range is its own limit's failure."""
    for case in cases(recording):
        clause = _KINDS.get(case.kind)
        if case.want != "refuse" or clause is None:
            continue
        exchange, status = case.exchange, case.exchange.status
        if status == 400:
            yield ok(exchange, clause=clause)
        elif case.taken == "refused" or (case.taken == "unclear" and status is not None and status not in BUSY):
            yield from _other_refusal(exchange, recording, clause)
        elif case.taken == "accepted" and clause != "M0-W-1302/status-400":
            yield fail(
                exchange,
                f"bad-{case.kind}-accepted",
                f"a bad request is served: {exchange.label}",
                expected="HTTP 400",
                clause=clause,
            )


def _other_refusal(exchange: Exchange, recording: Recording, clause: str) -> Findings:
    framework = exchange.status in {413, 415, 422}
    lenient = framework and recording.settings.get("disputes") in {"lenient", "report"}
    speak = warn if lenient else fail
    yield speak(
        exchange,
        "refused-by-stream" if exchange.status == 200 else "refused-with-another-status",
        f"a bad request is refused, but not with 400: {exchange.label}",
        expected="HTTP 400",
        clause=clause,
    )
    if framework:
        yield note(exchange, "status-422", "a framework's status", reading=("E-422", "422"), clause=clause)


@invariant("M0-W-1302/error-json", on="exchange")
def error_json(exchange: Exchange, recording: Recording) -> Findings:  # noqa: ARG001 - the signature of "exchange"
    """Content type and one JSON object."""
    if not is_refusal(exchange):
        return
    parsed = parse_json(exchange.body)
    yield first_broken(
        exchange,
        (
            exchange.content_type == "application/json",
            "refusal-content-type",
            "the answer to a bad request is not announced as JSON",
            "content-type: application/json",
            exchange.header("content-type") or "no content type",
        ),
        (
            parsed.ok and isinstance(parsed.value, dict) and parsed.value,
            "refusal-not-a-json-object",
            "the answer to a bad request is no JSON object with details",
            "one JSON object",
            "; ".join(parsed.problems) or describe(exchange),
        ),
        (
            not broken(exchange),
            "refusal-broken-end",
            "the answer to a bad request does not end where its message ends",
            "a whole HTTP message and nothing after it",
            broken(exchange),
        ),
    )


@judge("M0-W-1302/names-field")
def names_field(recording: Recording) -> Findings:
    """The name stands somewhere in the body; where there is no JSON object, error-json says so."""
    for case in cases(recording):
        asked = case.want == "refuse" and case.field and case.kind in {"value", "type"}
        if not asked or refusal(case.exchange) is None:
            continue
        yield require(
            case.field in case.exchange.body.decode("utf-8", "replace"),
            case.exchange,
            "field-not-named",
            f"the answer does not name the offending field: {case.exchange.label}",
            expected=f"{case.field} in the body",
        )


@invariant("M0-W-1500/invalid-request-code", "M0-W-1510/invalid-not-retriable", on="exchange")
def refusal_members(exchange: Exchange, recording: Recording) -> Findings:  # noqa: ARG001 - the signature of "exchange"
    """The code is INVALID_REQUEST, retriable is false where it is present. A code outside the set is code-set's."""
    body = refusal(exchange)
    if body is None:
        return
    code, retriable = member(body, "code"), member(body, "retriable")
    if code is not None and not isinstance(code, str):
        code = ""  # a code that is no string is none of the set
    if code == "INVALID_REQUEST":
        yield ok(exchange, clause="M0-W-1500/invalid-request-code")
    elif not code or code in CODES:
        yield fail(
            exchange,
            "no-invalid-request-code",
            "the answer to a bad request does not carry the code INVALID_REQUEST",
            expected="code: INVALID_REQUEST",
            actual=f"code: {code!r}",
            clause="M0-W-1500/invalid-request-code",
        )
    clause = "M0-W-1510/invalid-not-retriable"
    if retriable is False:
        yield ok(exchange, clause=clause)
    elif retriable is None:
        yield not_applicable(exchange, "the answer has no retriable", clause=clause)
    else:
        yield fail(
            exchange,
            "invalid-is-retriable",
            "the answer to a bad request calls it retriable",
            expected="retriable: false",
            actual=f"retriable: {retriable!r}",
            clause=clause,
        )


@invariant("M0-W-1302/never-5xx", on="recording")
def answered(recording: Recording) -> Findings:
    """Every bad input gets an answer; other 5xx than 503 and broken connections are seen by the invariant."""
    for case in cases(recording):
        exchange = case.exchange
        if exchange.status is None and (exchange.end == "timeout" or unanswered(exchange, recording)):
            yield fail(
                exchange,
                "no-answer",
                f"a client's input gets no answer: {exchange.label}",
                expected="an HTTP answer below 500",
            )
        elif exchange.status == 503 and case.want != "accept":
            yield fail(
                exchange, "unavailable", f"bad input is answered with 503: {exchange.label}", expected="2xx or 4xx"
            )
        elif exchange.status is not None and exchange.status < 500:
            yield ok(exchange)


@judge("M0-W-1302/unknown-field")
def unknown_field(recording: Recording) -> Findings:
    """E-UNK: ignored or refused."""
    for exchange in recording.labelled("unknown field"):
        if exchange.status == 200:
            yield ok(exchange)
            yield note(exchange, "unknown-field", "unknown fields are ignored", reading=("E-UNK", "ignored"))
        elif is_refused(exchange):
            yield ok(exchange)
            yield note(exchange, "unknown-field", "unknown fields are refused", reading=("E-UNK", "refused"))
        else:
            yield fail(
                exchange, "unknown-field", "an unknown field is neither ignored nor refused", expected="HTTP 200 or 4xx"
            )


@judge("M0-W-1302/wrong-method", "M0-W-1302/unknown-path", "M0-W-1001/no-load-route")
def routes(recording: Recording) -> Findings:
    """Requests that no route takes. A 5xx is never-5xx's."""
    kinds = {
        "wrong method": ("M0-W-1302/wrong-method", "wrong-method-served", "HTTP 4xx"),
        "unknown path": ("M0-W-1302/unknown-path", "unknown-path-served", "HTTP 404"),
        "load route": ("M0-W-1001/no-load-route", "load-route-served", "HTTP 4xx"),
    }
    for label, (clause, key, expected) in kinds.items():
        for exchange in recording.labelled(label):
            if exchange.status is None:
                if unanswered(exchange, recording):
                    yield fail(
                        exchange, "route-unanswered", f"{exchange.method} {exchange.path} gets no answer",
                        expected=expected, actual=describe(exchange), clause=clause,
                    )  # fmt: skip
                continue
            if exchange.status >= 500:
                continue
            refused = exchange.status == 404 if label == "unknown path" else exchange.status >= 400
            yield require(
                refused,
                exchange,
                key,
                f"{exchange.method} {exchange.path} is not refused",
                expected=expected,
                clause=clause,
            )


@judge("M0-W-1302/next-unaffected")
def next_unaffected(recording: Recording) -> Findings:
    """The same greedy job before and after the refusals, where some were really refused."""
    before = steady(recording, "before")
    refused = any(is_refused(exchange) for exchange in recording.exchanges)
    if before is None or not refused:
        return
    served = {id(stream.exchange): stream for stream in streams(recording, "after")}
    for exchange in recording.labelled("after"):
        stream = served.get(id(exchange))
        if stream is not None and finished(stream) and stream.pieces == before:
            yield ok(stream)
        elif (stream is None and exchange.status not in BUSY) or (stream is not None and stream.terminal is not None):
            yield fail(
                exchange,
                "job-after-refusals-differs",
                "after refused requests a valid job is not served as before them",
                expected=repr(before)[:160],
                actual=describe(exchange) if stream is None else repr(stream.pieces)[:160],
            )

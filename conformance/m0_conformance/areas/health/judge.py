"""Judges of GET /health: its fields, and what it says of the tokenizer."""

from __future__ import annotations

from m0_conformance.contract import has, must_be, required
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
    warn,
)
from m0_conformance.judging.answers import broken, health_body, is_health, unanswered
from m0_conformance.judging.fields import GGUF_FORMATS, M0_QUANTS


@judge("M0-W-1360/from-metadata", "M0-W-1364/vocab-size")
def tokenizer_identity(recording: Recording) -> Findings:
    """/health against the known file. A missing or malformed field is M0-W-1320's."""
    known = recording.facts.get("tokenizer")
    for exchange in recording.labelled("identity") if isinstance(known, dict) else []:
        body = parse_json(exchange.body).value
        if exchange.status != 200 or not isinstance(body, dict) or not isinstance(known, dict):
            continue
        kind, size = body.get("tokenizer_kind"), body.get("vocab_size")
        if kind in ("gguf-bpe", "hf-json"):
            clause = "M0-W-1360/from-metadata"
            yield (
                ok(exchange, clause=clause)
                if kind == known["kind"]
                else fail(
                    exchange,
                    "other-backend",
                    "a byte-BPE vocabulary is not served by gguf-bpe",
                    expected=known["kind"],
                    actual=kind,
                    clause=clause,
                )
            )
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            clause = "M0-W-1364/vocab-size"
            yield (
                ok(exchange, clause=clause)
                if size in known["sizes"]
                else fail(
                    exchange,
                    "other-vocabulary-size",
                    "vocab_size is neither the number of tokens nor that of rows",
                    expected=f"one of {known['sizes']}",
                    actual=str(size),
                    clause=clause,
                )
            )


FIELDS = {f"M0-W-1320/{field.replace('_', '-')}": field for field in required("health")}


@invariant("M0-W-1320/answers-json", on="exchange")
def answers_json(exchange: Exchange, recording: Recording) -> Findings:
    """Status 200, content type, one JSON object. A worker that is starting, draining or gone is judged elsewhere."""
    if not is_health(exchange) or exchange.status == 503 or recording.check.startswith("canary"):
        return
    if exchange.status is None:
        if unanswered(exchange, recording):
            yield fail(exchange, "health-unanswered", "GET /health gets no answer", expected="HTTP 200")
        return
    parsed = parse_json(exchange.body)
    yield first_broken(
        exchange,
        (exchange.status == 200, "health-status", "GET /health is not answered with 200", "HTTP 200"),
        (
            exchange.content_type == "application/json",
            "health-content-type",
            "the answer to GET /health is not announced as JSON",
            "content-type: application/json",
            exchange.header("content-type") or "no content type",
        ),
        (
            parsed.ok and isinstance(parsed.value, dict),
            "health-not-a-json-object",
            "the answer to GET /health is no plain JSON object",
            "one JSON object",
            "; ".join(parsed.problems) or describe(exchange),
        ),
        (
            not broken(exchange),
            "health-broken-end",
            "the answer to GET /health does not end where its message ends",
            "a whole HTTP message and nothing after it",
            broken(exchange),
        ),
    )


@invariant(*FIELDS, on="exchange")
def fields(exchange: Exchange, recording: Recording) -> Findings:  # noqa: ARG001 - the signature of "exchange"
    """Presence and type of each field that needs no second look."""
    body = health_body(exchange) if is_health(exchange) else None
    for clause, field in FIELDS.items() if body is not None else ():
        words, keys = must_be("health", field), ", ".join(sorted(body or ()))[:120]
        yield require(
            has("health", body or {}, field),
            exchange,
            f"health-{field.replace('_', '-')}",
            f"/health has no {field} that is {words}",
            expected=f"{field}: {words}",
            actual=f"{field}: {body[field]!r}"[:120] if body and field in body else f"no {field}; keys: {keys}",
            clause=clause,
        )


@invariant("M0-W-1320/quant-kind", on="exchange")
def quant_kind(exchange: Exchange, recording: Recording) -> Findings:  # noqa: ARG001 - the signature of "exchange"
    """One of M0's three; another GGUF format is a non-M0 model, which warns (E-HEALTH3)."""
    body = health_body(exchange) if is_health(exchange) else None
    if body is None:
        return
    value = body.get("quant_kind")
    if value in M0_QUANTS:
        yield ok(exchange)
    elif value in GGUF_FORMATS:
        yield warn(exchange, "non-m0-quant-kind", "the model's format is none of M0's three", actual=repr(value))
        yield note(exchange, "quant-kind", "a format outside M0 is loaded", reading=("E-HEALTH3", "other"))
    else:
        yield fail(
            exchange,
            "health-quant-kind",
            "/health has no quant_kind that names a format",
            expected="quant_kind: MXFP4, Q4_K_M or Q4_0",
            actual=f"quant_kind: {value!r}"[:120] if "quant_kind" in body else "no quant_kind",
        )


@invariant("M0-W-1320/optional-types", on="exchange")
def optional_types(exchange: Exchange, recording: Recording) -> Findings:  # noqa: ARG001 - the signature of "exchange"
    """Sm an integer, cuda_runtime_version a string; null says unknown."""
    body = health_body(exchange) if is_health(exchange) else None
    if body is None:
        return
    present = {key: body[key] for key in ("sm", "cuda_runtime_version") if body.get(key) is not None}
    if not present:
        yield not_applicable(exchange, "the worker sends neither sm nor cuda_runtime_version")
    else:
        yield require(
            all(has("health", present, field) for field in present),
            exchange,
            "optional-type",
            "an optional health field has the wrong type",
            expected="sm: integer, cuda_runtime_version: string",
            actual=repr(present)[:160],
        )


@invariant("M0-W-1320/status", on="exchange")
def status(exchange: Exchange, recording: Recording) -> Findings:
    """Healthy or unhealthy; and healthy where this recording holds a job that the same worker finished before."""
    body = health_body(exchange) if is_health(exchange) else None
    if body is None:
        return
    value = body.get("status")
    if value not in ("healthy", "unhealthy"):
        yield fail(
            exchange,
            "health-status-word",
            "/health has no status that is healthy or unhealthy",
            expected="status: healthy or unhealthy",
            actual=f"status: {value!r}"[:120],
        )
    elif value == "unhealthy" and recording.check == "doctor":
        yield warn(exchange, "unhealthy-at-start", "the worker calls itself unhealthy before any check ran")
    else:
        yield ok(exchange)


@invariant("M0-W-1320/uptime-seconds", on="recording")
def uptime_seconds(recording: Recording) -> Findings:
    """A number; between two answers of one worker it advances as the observer's clock does (1.5 s of tolerance)."""
    earlier: dict[str, tuple[float, float]] = {}
    for exchange in recording.exchanges:
        body = health_body(exchange) if is_health(exchange) else None
        if body is None:
            continue
        value = body.get("uptime_seconds")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            yield fail(
                exchange,
                "health-uptime",
                "/health has no uptime_seconds that is a number not below zero",
                expected="uptime_seconds: number ≥ 0",
                actual=f"uptime_seconds: {value!r}"[:120],
                clause="M0-W-1320/uptime-seconds",
            )
            continue
        now = exchange.t0 + (exchange.head_at or 0.0)
        if exchange.host in earlier:
            told, seen = value - earlier[exchange.host][0], now - earlier[exchange.host][1]
            if abs(told - seen) > 1.5:
                yield fail(
                    exchange,
                    "uptime-not-a-clock",
                    "uptime_seconds does not advance with the clock",
                    expected=f"about {seen:.1f} s more",
                    actual=f"{told:.1f} s more",
                )
                continue
        earlier.setdefault(exchange.host, (value, now))
        yield ok(exchange)

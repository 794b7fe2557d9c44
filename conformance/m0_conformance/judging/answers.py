"""How a worker took one request: what the judges of validation, limits and concurrency read their recordings with.

A check that sends many small variants of a job notes under the fact "cases" what it expects of each label:

    {"max_tokens 0": {"clause": "M0-W-1300/max-tokens-range", "want": "refuse", "kind": "value", "field": "max_tokens"}}

`want` is "accept", "refuse", "any" (any answer but a server error) or "edge" (illegal, but in single precision the
limit itself); `kind` says why it should be refused: "value"
(missing, out of range), "type" (wrong JSON type), "number" (not finite), "body" (no JSON object).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from m0_conformance.contract import parse_json
from m0_conformance.judging.streams import Stream, is_execute, stream_of, streams
from m0_conformance.recording.transcript import Exchange, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.recording.transcript import Exchange, Json, Recording

Taken: TypeAlias = Literal["accepted", "refused", "server-error", "unclear"]
BUSY = frozenset({409, 429, 503})
"""How a second job may be refused (E-2ND); none of them says anything about a request's validity."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what was expected of it."""

    exchange: Exchange
    clause: str
    want: Literal["accept", "refuse", "any", "edge"]
    kind: str
    field: str
    taken: Taken


def taken(exchange: Exchange) -> Taken:
    """Whether the worker took a request as valid. A lone INVALID_REQUEST error event counts as a refusal."""
    if exchange.status is None or exchange.status in BUSY:
        return "unclear"
    if exchange.status >= 500:
        return "server-error"
    if exchange.status >= 400:
        return "refused"
    if exchange.status != 200:
        return "unclear"
    stream = stream_of(exchange)
    last = stream.terminal
    if last is not None and not stream.tokens and last.kind == "error" and last.data.get("code") == "INVALID_REQUEST":
        return "refused"
    return "accepted"


def cases(recording: Recording) -> Iterator[Case]:
    """Every exchange that the check noted an expectation for."""
    noted = recording.facts.get("cases") or {}
    for exchange in recording.exchanges:
        entry = noted.get(exchange.label)
        if isinstance(entry, dict):
            name = entry.get("field") or ""
            yield Case(exchange, entry["clause"], entry["want"], entry["kind"], name, taken(exchange))


def job_of(exchange: Exchange) -> str | None:
    """The job_id that a request names; None without one that is a string."""
    value = exchange.request_json()
    job = value.get("job_id") if isinstance(value, dict) else None
    return job if isinstance(job, str) else None


def broken(exchange: Exchange) -> str:
    """What is wrong with the end of an answer that is no stream; "" when the whole message came and nothing more."""
    if exchange.end in {"reset", "timeout", "garbage"} or "bytes after the end of the message" in exchange.error:
        return exchange.error or exchange.end
    return ""


def unanswered(exchange: Exchange, recording: Recording) -> bool:
    """No HTTP answer, although we neither hung up nor disturbed the worker, and no other job kept it busy."""
    if exchange.status is not None or exchange.end in {"client-closed", "open"}:
        return False
    if any(launch.signals or launch.exit_code is not None or not launch.shared for launch in recording.launches):
        return False
    begin, end = exchange.t0, exchange.t0 + (exchange.closed_at or 0.0)
    jobs = (other for other in recording.exchanges if is_execute(other) and other is not exchange)
    return all(job.t0 > end or job.t0 + (job.closed_at or 0.0) < begin for job in jobs)


def is_refused(exchange: Exchange) -> bool:
    """Answered with a 4xx."""
    return exchange.status is not None and 400 <= exchange.status < 500


def is_refusal(exchange: Exchange) -> bool:
    """POST /execute answered as a request that failed validation."""
    return is_execute(exchange) and exchange.status in {400, 422}


def refusal(exchange: Exchange) -> dict[str, Json] | None:
    """The JSON object of a refusal, else None."""
    value = parse_json(exchange.body).value if is_refusal(exchange) else None
    return value if isinstance(value, dict) else None


def member(body: dict[str, Json], name: str) -> Json:
    """A member of an error body, at its top or inside "error"; None without one."""
    inner = body.get("error")
    return body[name] if name in body else inner.get(name) if isinstance(inner, dict) else None


def finished(stream: Stream) -> bool:
    """The job ended with `end`."""
    return stream.terminal is not None and stream.terminal.kind == "end"


def steady(recording: Recording, label: str) -> list[str] | None:
    """What the repeated control job said, where it was seen at least twice and always the same; None otherwise.

    A worker that does not repeat itself breaks the clauses of reproducibility; relations on top of it decide nothing.
    """
    seen = [stream for stream in streams(recording, label) if finished(stream)]
    if len(seen) < 2 or any(stream.pieces != seen[0].pieces for stream in seen):
        return None
    return seen[0].pieces


def repeats(stream: Stream, control: list[str]) -> bool:
    """Whether a job said what its control job said: all of it, and more only where it was asked for more."""
    asked = stream.request.get("max_tokens")
    more = isinstance(asked, int) and asked > len(control)
    return stream.pieces == control or (more and stream.pieces[: len(control)] == control)


def killed_by_us(stream: Stream) -> bool:
    """A check killed a worker in this recording: broken connections are its own doing."""
    if stream.recording is None:
        return False
    return any(name in {"SIGKILL", "SIGSTOP"} for launch in stream.recording.launches for name, _ in launch.signals)


def is_health(exchange: Exchange) -> bool:
    """A GET /health."""
    return exchange.method == "GET" and exchange.path == "/health"


def health_body(exchange: Exchange) -> dict[str, Json] | None:
    """The JSON object of a 200, else None."""
    value = parse_json(exchange.body).value if exchange.status == 200 else None
    return value if isinstance(value, dict) else None

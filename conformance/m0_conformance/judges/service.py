"""What POST /execute answers with: M0-W-1300/streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.contract import schema_errors
from m0_conformance.judges.answers import unanswered
from m0_conformance.judges.registry import fail, invariant, ok
from m0_conformance.judges.views import describe, is_execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding
    from m0_conformance.wire.transcript import Exchange, Recording


@invariant("M0-W-1300/streams", on="exchange")
def streams(exchange: Exchange, recording: Recording) -> Iterator[Finding]:
    """A 200 is announced as text/event-stream; 429, 409 and 503 to a valid job are the turnstile's right (E-2ND)."""
    if not is_execute(exchange) or schema_errors("execute", exchange.request_json()):
        return
    if exchange.status is None:
        if unanswered(exchange, recording):
            yield fail(
                exchange,
                "no-answer",
                "a valid request gets no answer",
                expected="HTTP 200 and a stream",
                actual=describe(exchange),
            )
        return
    if exchange.status == 200:
        if exchange.content_type == "text/event-stream":
            yield ok(exchange)
        else:
            yield fail(
                exchange,
                "stream-content-type",
                "the stream is not announced as an event stream",
                expected="content-type: text/event-stream",
                actual=exchange.header("content-type") or "no content type",
            )
    elif 200 < exchange.status < 400 or exchange.status == 404:
        yield fail(
            exchange,
            "no-stream",
            "a valid request gets no event stream",
            expected="HTTP 200",
            actual=describe(exchange),
        )

"""The order of events: M0-W-1311. Invariants, so every /execute stream of every check is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judges.registry import fail, invariant, ok, unsure
from m0_conformance.judges.views import KINDS, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding

CLOSE_S = 1.0
QUIET_S = 2.0
"""A stream that sent something this shortly before our patience ended was slow, not stuck."""


def killed_by_us(stream: Stream) -> bool:
    """A check killed a worker in this recording: broken connections are its own doing."""
    if stream.recording is None:
        return False
    return any(name in {"SIGKILL", "SIGSTOP"} for launch in stream.recording.launches for name, _ in launch.signals)


@invariant("M0-W-1311/started-first")
def started_first(stream: Stream) -> Iterator[Finding]:
    """The first event of any name."""
    if not stream.events:
        return
    first = stream.events[0]
    if first.kind == "started":
        yield ok(stream)
    else:
        yield fail(
            stream,
            "first-event-not-started",
            "the first event is not started",
            expected="started",
            actual=first.kind or "an event without a name",
            at=first,
        )


@invariant("M0-W-1311/started-once")
def started_once(stream: Stream) -> Iterator[Finding]:
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
def one_terminal(stream: Stream) -> Iterator[Finding]:
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
def nothing_after_terminal(stream: Stream) -> Iterator[Finding]:
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
    elif "bytes after the end of the message" in stream.exchange.error:
        yield fail(
            stream,
            "bytes-after-message",
            "bytes follow the end of the HTTP message on the same connection",
            expected="nothing more",
            actual=stream.exchange.error,
            at=terminal,
        )
    else:
        yield ok(stream)


@invariant("M0-W-1311/stream-closes")
def stream_closes(stream: Stream) -> Iterator[Finding]:
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

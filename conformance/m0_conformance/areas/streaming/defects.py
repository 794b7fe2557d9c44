"""Defects of the event stream: content type, SSE framing, order of events, end of the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.lie import on_bytes, on_event, on_events, on_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Head, Request


@on_bytes(
    "M0-W-1310/sse-grammar",
    collateral=("M0-W-1310/event-names", "M0-W-1310/event-line", "M0-W-1311/started-first"),
    source="text encoders that add one; SSE libraries swallow it together with the first event's name",
)
async def sse_bom(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The stream begins with a byte order mark."""
    yield b"\xef\xbb\xbf"
    async for event in events:
        yield event.encode()


@on_event("M0-W-1310/sse-grammar", source="a debug print that reached the socket")
def sse_bare_line(event: Event) -> list[Event]:
    """A line without a field name stands inside each event."""
    event.raw = event.encode().replace(b"\ndata:", b"\nprogress 42 percent\ndata:", 1)
    return [event]


@on_event("M0-W-1310/last-event-complete", source="opencode #40454")
def no_final_blank(event: Event) -> list[Event]:
    """The last event's blank line is missing, so that a client never dispatches it."""
    if event.terminal:
        event.raw = event.encode()[:-1]
    return [event]


@on_event(
    "M0-W-1310/utf8-bytes",
    collateral=(
        "M0-W-1312/json-object",
        "M0-W-1362/text-exact",
        "M0-W-1362/holds-incomplete",
        "M0-W-1824/no-replacement",
        "M0-W-1312/token-fields",
        "M0-W-1362/unfinished-at-end",
    ),
    source="known defect 33; a byte counted as a character",
)
def utf8_broken_bytes(event: Event) -> list[Event]:
    """A multi-byte character loses its last byte on the wire."""
    raw = event.encode()
    high = [index for index, byte in enumerate(raw) if byte >= 0x80]
    if event.name == "token" and high:
        event.raw = raw[: high[-1]] + raw[high[-1] + 1 :]
    return [event]


@on_head("M0-W-1300/streams", source="a framework's default")
def wrong_content_type(head: Head) -> Head:
    """The stream is announced as text/plain."""
    head.set("content-type", "text/plain; charset=utf-8")
    return head


@on_bytes(
    "M0-W-1311/one-terminal",
    collateral=("M0-W-1310/last-event-complete", "M0-W-1311/stream-closes"),
    source="known defect 4: IncompleteMessage",
)
async def dies_mid_response(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The connection breaks before the terminal event, in the middle of the chunked body."""
    async for event in events:
        if event.terminal:
            raise ConnectionResetError("cut")
        yield event.encode()


@on_event("M0-W-1311/one-terminal", source="known defect 5; lemonade #3448, any-llm #847, litellm #32159")
def no_terminal(event: Event) -> list[Event]:
    """The stream ends without end or error."""
    return [] if event.terminal else [event]


@on_event("M0-W-1311/one-terminal", source="mistral.rs #1874")
def two_terminals(event: Event) -> list[Event]:
    """After end comes a second end."""
    return [event, event] if event.name == "end" else [event]


@on_event("M0-W-1311/started-first", source="known defect 7")
def no_started(event: Event) -> list[Event]:
    """The stream begins with the first token."""
    return [] if event.name == "started" else [event]


@on_event("M0-W-1311/started-once", source="a retry inside the worker that begins the stream anew")
def started_twice(event: Event) -> list[Event]:
    """started is sent again before the first token."""
    return [event, event] if event.name == "started" else [event]


@on_events("M0-W-1311/started-first", source="M0-W-1311's order, broken by a task that announces the job concurrently")
async def started_late(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """started comes after the first token."""
    held: list[Event] = []
    async for event in events:
        if event.name == "started":
            held.append(event)
            continue
        yield event
        for late in held:
            yield late
        held.clear()


@on_events("M0-W-1311/nothing-after-terminal", source="a producer and a finisher that race")
async def token_after_end(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """A last token comes after end."""
    last: Event | None = None
    async for event in events:
        if event.name == "token":
            if last is not None:
                yield last
            last = event
            continue
        yield event
        if event.terminal and last is not None:
            yield last
            last = None


@on_event(
    "M0-W-1310/event-line",
    collateral=("M0-W-1311/nothing-after-terminal", "M0-W-1310/event-names", "M0-W-1312/json-object"),
    source="dialect D of upstream's successor; the habit of another protocol",
)
def done_after_end(event: Event) -> list[Event]:
    """A literal [DONE] without an event line follows the terminal event."""
    return [event, Event("", {}, b"data: [DONE]\n\n")] if event.terminal else [event]


@on_event("M0-W-1311/nothing-after-terminal", source="a summary that is sent when everything is over")
def metrics_after_end(event: Event) -> list[Event]:
    """A metrics event with the job's totals follows its terminal event."""
    return [event, Event("metrics", {"total_ms": 12})] if event.terminal else [event]


class NeverCloses(Defect):
    name = "never-closes"
    about = "Every fourth connection stays open after the terminal event."
    kills = ("M0-W-1311/stream-closes",)
    source = "known defect 6: a receiver whose sender is kept alive"
    streams = 0

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        self.streams += 1
        if self.streams % 4 == 0:
            await asyncio.sleep(20)


@on_event("M0-W-1310/event-names", source="planned narration events of dialect F")
def unknown_event(event: Event) -> list[Event]:
    """An event of a type that M0 does not have comes before each token."""
    return [Event("narration", {"human": "thinking"}), event] if event.name == "token" else [event]


@on_event("M0-W-1310/event-line", source="known defect 8: dropped in a refactor")
def only_json_type(event: Event) -> list[Event]:
    """The type stands in the JSON only, the event: lines are gone."""
    return [Event("", {"type": event.name, **event.data})]

"""Defects of the event stream: content type, SSE framing, order of events, end of the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Defect, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Head, Request


class ByteOrderMark(Defect):
    name = "sse-bom"
    about = "The stream begins with a byte order mark."
    kills = ("M0-W-1310/sse-grammar",)
    collateral = ("M0-W-1310/event-names", "M0-W-1310/event-line", "M0-W-1311/started-first")
    source = "text encoders that add one; SSE libraries swallow it together with the first event's name"

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        yield b"\xef\xbb\xbf"
        async for event in events:
            yield event.encode()


class BareText(Defect):
    name = "sse-bare-line"
    about = "A line without a field name stands inside each event."
    kills = ("M0-W-1310/sse-grammar",)
    source = "a debug print that reached the socket"

    def event(self, request: Request, event: Event) -> list[Event]:
        event.raw = event.encode().replace(b"\ndata:", b"\nprogress 42 percent\ndata:", 1)
        return [event]


class NoFinalBlank(Defect):
    name = "no-final-blank"
    about = "The last event's blank line is missing, so that a client never dispatches it."
    kills = ("M0-W-1310/last-event-complete",)
    source = "opencode #40454"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.terminal:
            event.raw = event.encode()[:-1]
        return [event]


class BrokenUtf8(Defect):
    name = "utf8-broken-bytes"
    about = "A multi-byte character loses its last byte on the wire."
    kills = ("M0-W-1310/utf8-bytes",)
    collateral = (
        "M0-W-1312/json-object", "M0-W-1362/text-exact", "M0-W-1362/holds-incomplete", "M0-W-1824/no-replacement",
        "M0-W-1312/token-fields", "M0-W-1362/unfinished-at-end",
    )  # fmt: skip
    source = "known defect 33; a byte counted as a character"

    def event(self, request: Request, event: Event) -> list[Event]:
        raw = event.encode()
        high = [index for index, byte in enumerate(raw) if byte >= 0x80]
        if event.name == "token" and high:
            event.raw = raw[: high[-1]] + raw[high[-1] + 1 :]
        return [event]


class WrongContentType(Defect):
    name = "wrong-content-type"
    about = "The stream is announced as text/plain."
    kills = ("M0-W-1300/streams",)
    source = "a framework's default"

    def stream_head(self, request: Request, head: Head) -> Head:
        head.set("content-type", "text/plain; charset=utf-8")
        return head


class TruncatedChunk(Defect):
    name = "dies-mid-response"
    about = "The connection breaks before the terminal event, in the middle of the chunked body."
    kills = ("M0-W-1311/one-terminal",)
    collateral = ("M0-W-1310/last-event-complete", "M0-W-1311/stream-closes")
    source = "known defect 4: IncompleteMessage"

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        async for event in events:
            if event.terminal:
                raise ConnectionResetError("cut")
            yield event.encode()


class NoTerminal(Defect):
    name = "no-terminal"
    about = "The stream ends without end or error."
    kills = ("M0-W-1311/one-terminal",)
    source = "known defect 5; lemonade #3448, any-llm #847, litellm #32159"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [] if event.terminal else [event]


class TwoTerminals(Defect):
    name = "two-terminals"
    about = "After end comes a second end."
    kills = ("M0-W-1311/one-terminal",)
    source = "mistral.rs #1874"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, event] if event.name == "end" else [event]


class NoStarted(Defect):
    name = "no-started"
    about = "The stream begins with the first token."
    kills = ("M0-W-1311/started-first",)
    source = "known defect 7"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [] if event.name == "started" else [event]


class StartedTwice(Defect):
    name = "started-twice"
    about = "started is sent again before the first token."
    kills = ("M0-W-1311/started-once",)
    source = "a retry inside the worker that begins the stream anew"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, event] if event.name == "started" else [event]


class StartedLate(Defect):
    name = "started-late"
    about = "started comes after the first token."
    kills = ("M0-W-1311/started-first",)
    source = "M0-W-1311's order, broken by a task that announces the job concurrently"

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        held: list[Event] = []
        async for event in events:
            if event.name == "started":
                held.append(event)
                continue
            yield event
            for late in held:
                yield late
            held.clear()


class TokenAfterEnd(Defect):
    name = "token-after-end"
    about = "A last token comes after end."
    kills = ("M0-W-1311/nothing-after-terminal",)
    source = "a producer and a finisher that race"

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
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


class DoneAfterEnd(Defect):
    name = "done-after-end"
    about = "A literal [DONE] without an event line follows the terminal event."
    kills = ("M0-W-1310/event-line",)
    collateral = ("M0-W-1311/nothing-after-terminal", "M0-W-1310/event-names", "M0-W-1312/json-object")
    source = "dialect D of upstream's successor; the habit of another protocol"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, Event("", {}, b"data: [DONE]\n\n")] if event.terminal else [event]


class MetricsAfterEnd(Defect):
    name = "metrics-after-end"
    about = "A metrics event with the job's totals follows its terminal event."
    kills = ("M0-W-1311/nothing-after-terminal",)
    source = "a summary that is sent when everything is over"

    def event(self, request: Request, event: Event) -> list[Event]:
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


class UnknownEvent(Defect):
    name = "unknown-event"
    about = "An event of a type that M0 does not have comes before each token."
    kills = ("M0-W-1310/event-names",)
    source = "planned narration events of dialect F"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [Event("narration", {"human": "thinking"}), event] if event.name == "token" else [event]


class OnlyJsonType(Defect):
    name = "only-json-type"
    about = "The type stands in the JSON only, the event: lines are gone."
    kills = ("M0-W-1310/event-line",)
    source = "known defect 8: dropped in a refactor"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [Event("", {"type": event.name, **event.data})]

"""The bytes of an event stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Defect, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


class NotJson(Defect):
    name = "payload-not-json"
    about = "Payloads are written in Python's notation, with single quotes."
    kills = ("M0-W-1312/json-object",)
    source = "a dictionary printed in place of being encoded"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "started":
            event.raw = f"event: started\ndata: {event.data!r}\n\n".encode()
        return [event]


class DuplicateKey(Defect):
    name = "payload-duplicate-key"
    about = "The payload of end holds tokens_out twice."
    kills = ("M0-W-1312/json-object",)
    source = "string concatenation in place of an encoder; parsers silently keep one of the two"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "end":
            text = json.dumps(event.data)
            event.raw = f'event: end\ndata: {{"tokens_out": 0, {text[1:]}\n\n'.encode()
        return [event]


class NanInPayload(Defect):
    name = "payload-nan"
    about = "decode_time_ms is NaN, which is no JSON."
    kills = ("M0-W-1312/json-object",)
    collateral = (
        "M0-W-1312/end-decode-time",
        "M0-W-1312/end-fields",
        "M0-W-1421/penalty-zero",
        "M0-W-1312/end-tokens-out",
    )
    source = "reading E-TEMP0: NaN anywhere in the stream"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "end":
            event.raw = f"event: end\ndata: {json.dumps({**event.data, 'decode_time_ms': float('nan')})}\n\n".encode()
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

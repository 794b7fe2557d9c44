"""Cutting and pasting in recorded exchanges: every edit leaves the recording it was given untouched."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from m0_conformance.contract import parse_json
from m0_conformance.judging.streams import Event, Stream, is_execute, stream_of
from m0_conformance.recording.transcript import Chunk, Exchange, Recording

CORPUS = Path(__file__).parent / "corpus"
Splice: TypeAlias = tuple[int, int, bytes]
"""Body bytes [start, end) become these."""
Sites: TypeAlias = Iterator[tuple[str, Recording]]
"""(where, the changed recording) for each place that an operator can be used at."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A named way to change a recording; an identity leaves what the recording says unchanged."""

    name: str
    apply: Callable[[Recording], Sites]
    identity: bool


OPERATORS: dict[str, Operator] = {}


def operator(
    name: str, *, identity: bool = False
) -> Callable[[Callable[[Recording], Sites]], Callable[[Recording], Sites]]:
    """Register a function from a recording to changed recordings."""

    def register(function: Callable[[Recording], Sites]) -> Callable[[Recording], Sites]:
        assert name not in OPERATORS
        OPERATORS[name] = Operator(name, function, identity)
        return function

    return register


def corpus() -> dict[str, Recording]:
    """Every committed recording by name."""
    return {path.stem: Recording.decode(path.read_bytes()) for path in sorted(CORPUS.glob("*.json"))}


# ---- recordings ----------------------------------------------------------------------------------------------------


def put(recording: Recording, **exchanges: Exchange) -> Recording:
    """A copy in which the exchanges of these ids are replaced."""
    return replace(recording, exchanges=[exchanges.get(one.id, one) for one in recording.exchanges])


def streams(recording: Recording) -> Iterator[Stream]:
    """Every event stream with at least one event."""
    for exchange in recording.exchanges:
        if is_execute(exchange) and exchange.status == 200:
            stream = stream_of(exchange, recording)
            if stream.events:
                yield stream


def place(exchange: Exchange) -> str:
    """For a site's name: "x3 greedy"."""
    return f"{exchange.id} {exchange.label}"


def some(events: list[Event], salt: str) -> list[Event]:
    """The first or second, one of the middle, one of the last three: which, the salt decides."""
    number = zlib.crc32(salt.encode())
    chosen = {number % 2, len(events) // 2, len(events) - 1 - number % 3}
    return [event for event in events if event.index in chosen]


def on_events(
    name: str, *, identity: bool = False
) -> Callable[[Callable[[Stream, Event], Iterable[tuple[str, Exchange]]]], Callable[[Recording], Sites]]:
    """Register a function that changes the stream at one event; yields (what, changed exchange)."""

    def register(function: Callable[[Stream, Event], Iterable[tuple[str, Exchange]]]) -> Callable[[Recording], Sites]:
        def apply(recording: Recording) -> Sites:
            for stream in streams(recording):
                for event in some(stream.events, name + stream.exchange.id):
                    for what, changed in function(stream, event):
                        where = f"{place(stream.exchange)}/{event.index} {event.kind}" + (f"/{what}" if what else "")
                        yield where, put(recording, **{changed.id: changed})

        return operator(name, identity=identity)(apply)

    return register


def on_exchanges(
    name: str, *, identity: bool = False
) -> Callable[[Callable[[Exchange, Recording], Iterable[tuple[str, Exchange]]]], Callable[[Recording], Sites]]:
    """Register a function that changes one exchange; yields (what, changed exchange)."""

    def register(
        function: Callable[[Exchange, Recording], Iterable[tuple[str, Exchange]]],
    ) -> Callable[[Recording], Sites]:
        def apply(recording: Recording) -> Sites:
            for exchange in recording.exchanges:
                for what, changed in function(exchange, recording):
                    yield f"{place(exchange)}" + (f"/{what}" if what else ""), put(recording, **{changed.id: changed})

        return operator(name, identity=identity)(apply)

    return register


# ---- bodies ---------------------------------------------------------------------------------------------------------


def edited(exchange: Exchange, *splices: Splice) -> Exchange:
    """Replace ranges of the body. New bytes arrive with the first byte they replace, or with the one before them."""
    body, chunks, cursor = exchange.body, [], 0
    for start, end, new in sorted(splices):
        chunks += _range(exchange, cursor, start)
        at = exchange.time_of_byte(start if end > start else max(start - 1, 0))
        if new:
            chunks.append(Chunk(exchange.chunks[-1].at if at is None else at, new))
        cursor = end
    chunks += _range(exchange, cursor, len(body))
    return replace(exchange, chunks=chunks)


def _range(exchange: Exchange, start: int, end: int) -> list[Chunk]:
    ends = list(accumulate(len(chunk.data) for chunk in exchange.chunks))
    begins = [0, *ends]
    found = []
    for begin, stop, chunk in zip(begins, ends, exchange.chunks, strict=False):
        piece = chunk.data[max(start - begin, 0) : max(min(end, stop) - begin, 0)]
        if piece:
            found.append(Chunk(chunk.at, piece))
    return found


def with_body(exchange: Exchange, body: bytes) -> Exchange:
    """The whole body replaced, at its first arrival."""
    at = exchange.chunks[0].at if exchange.chunks else (exchange.head_at or 0.0)
    return replace(exchange, chunks=[Chunk(at, body)] if body else [])


def block(event: Event) -> tuple[int, int]:
    """The event's bytes with its closing blank line."""
    return event.raw.byte, event.raw.end + (1 if event.raw.terminated else 0)


def block_bytes(stream: Stream, event: Event) -> bytes:
    """Those bytes."""
    start, end = block(event)
    return stream.exchange.body[start:end]


def payload_range(event: Event) -> tuple[int, int]:
    """Where the JSON of an event with one data line stands."""
    line = next(line for line in event.raw.lines if line.raw.startswith(b"data:"))
    start = line.byte + len(line.raw) - len(line.raw[5:].removeprefix(b" "))
    return start, line.byte + len(line.raw)


def written(value: Any) -> bytes:
    """JSON as the worker writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def with_payload(stream: Stream, event: Event, value: Any) -> Exchange:
    """Another JSON value as the event's data."""
    start, end = payload_range(event)
    return edited(stream.exchange, (start, end, value if isinstance(value, bytes) else written(value)))


def json_object(exchange: Exchange) -> dict[str, Any] | None:
    """The body of an answer that is one JSON object, else None."""
    value = parse_json(exchange.body).value if exchange.content_type == "application/json" else None
    return value if isinstance(value, dict) else None

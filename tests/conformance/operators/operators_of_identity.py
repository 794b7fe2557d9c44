"""Operators that change bytes, never what is said: none of them may make any status worse."""

from __future__ import annotations

import json
from dataclasses import replace

from m0_conformance.judging.streams import Event, Stream, is_execute
from m0_conformance.recording.transcript import Chunk, Exchange, Recording
from operators_of_events import CONTRACT, Variants
from operators_of_exchanges import HEALTH
from transcript_edits import (
    block,
    edited,
    json_object,
    on_events,
    on_exchanges,
    payload_range,
    with_body,
    with_payload,
    written,
)


def _is_stream(exchange: Exchange) -> bool:
    return is_execute(exchange) and exchange.status == 200 and bool(exchange.chunks)


@on_exchanges("split-chunks", identity=True)
def split_chunks(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    """Same bytes, same times, other pieces."""
    if exchange.chunks:
        for size in (1, 7):
            pieces = [
                Chunk(chunk.at, chunk.data[at : at + size])
                for chunk in exchange.chunks
                for at in range(0, len(chunk.data), size)
            ]
            yield f"{size} bytes", replace(exchange, chunks=pieces)


@on_exchanges("merge-chunks", identity=True)
def merge_chunks(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    """Pieces that arrived at the same moment become one."""
    merged: list[Chunk] = []
    for chunk in exchange.chunks:
        if merged and merged[-1].at == chunk.at:
            merged[-1] = Chunk(chunk.at, merged[-1].data + chunk.data)
        else:
            merged.append(chunk)
    if len(merged) < len(exchange.chunks):
        yield "", replace(exchange, chunks=merged)


@on_exchanges("crlf", identity=True)
def crlf(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    if _is_stream(exchange):
        yield (
            "",
            replace(
                exchange, chunks=[Chunk(chunk.at, chunk.data.replace(b"\n", b"\r\n")) for chunk in exchange.chunks]
            ),
        )


@on_exchanges("header-case", identity=True)
def header_case(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    if exchange.status is not None:
        yield "upper", replace(exchange, headers=[(name.upper(), value) for name, value in exchange.headers])
        yield "more", replace(exchange, headers=[("X-Anything", "1"), *exchange.headers])
        yield (
            "parameter",
            replace(
                exchange,
                headers=[
                    (name, f"{value}; charset=utf-8" if name == "content-type" else value)
                    for name, value in exchange.headers
                ],
            ),
        )


@on_exchanges("http-1.0", identity=True)
def http_1_0(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    if exchange.status is not None:
        yield "", replace(exchange, http_version="1.0", framing="close", reason="")


@on_exchanges("json-layout", identity=True)
def json_layout(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    value = json_object(exchange)
    if value is not None:
        known = {key: value[key] for key in value if key in HEALTH or exchange.path != "/health"}
        yield "only what M0 asks for", with_body(exchange, written(known))
        yield "reversed", with_body(exchange, written(dict(reversed(value.items()))))
        yield "indented", with_body(exchange, json.dumps(value, indent=2).encode() + b"\n")
        yield "one more", with_body(exchange, written({**value, "anything": [None]}))


@on_events("comment", identity=True)
def comment(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    yield "before", edited(stream.exchange, (start, start, b": ping\n\n"))
    yield "inside", edited(stream.exchange, (end - 1, end - 1, b":\n"))
    yield "after", edited(stream.exchange, (end, end, b": 15 s\n: more\n\n\n"))


@on_events("event-layout", identity=True)
def event_layout(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    text = stream.exchange.body[start:end]
    low, high = payload_range(event)
    payload = stream.exchange.body[low:high]
    for what, data in {
        "no blanks": text.replace(b"event: ", b"event:").replace(b"data: ", b"data:"),
        "data first": b"data: " + payload + b"\nevent: " + event.kind.encode() + b"\n\n",
        "id and retry": b"id: 7\nretry: 1000\n" + text,
        "two data lines": text.replace(b"data: {", b"data: {\ndata: ", 1),
        "more blank lines": text + b"\n\n",
    }.items():
        yield what, edited(stream.exchange, (start, end, data))


@on_events("payload-layout", identity=True)
def payload_layout(stream: Stream, event: Event) -> Variants:
    value = event.data
    known = {key: value[key] for key in value if key in CONTRACT.get(event.kind, ())}
    yield "only what M0 asks for", with_payload(stream, event, known)
    yield "reversed", with_payload(stream, event, dict(reversed(value.items())))
    yield "blanks", with_payload(stream, event, json.dumps(value, ensure_ascii=True).encode())
    yield "one more", with_payload(stream, event, {**value, "anything": {"deep": [None]}})
    yield (
        "escapes",
        with_payload(
            stream, event, b"{" + b",".join(_escaped(key) + b":" + _value(value[key]) for key in value) + b"}"
        ),
    )


def _escaped(text: str) -> bytes:
    units = text.encode("utf-16-be")
    return b'"' + b"".join(b"\\u" + units[at : at + 2].hex().encode() for at in range(0, len(units), 2)) + b'"'


def _value(value: object) -> bytes:
    return _escaped(value) if isinstance(value, str) else written(value)


@on_events("metrics-event", identity=True)
def metrics_event(stream: Stream, event: Event) -> Variants:
    """Between started and the terminal event, metrics may come at any place."""
    if event.kind in {"started", "token"}:
        _, end = block(event)
        data = b'event: metrics\ndata: {"tokens_per_sec":12.5,"vram_bytes":0}\n\n'
        yield "", edited(stream.exchange, (end, end, data))

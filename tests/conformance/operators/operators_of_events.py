"""Operators on the events of a stream: order, presence, bytes, fields."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from m0_conformance.recording.transcript import Exchange
from transcript_edits import block, block_bytes, edited, on_events, payload_range, with_payload, written

if TYPE_CHECKING:
    from m0_conformance.judging.streams import Event, Stream

CONTRACT = {
    "started": ("job_id", "model", "started_at"),
    "token": ("t", "i"),
    "end": ("tokens_out", "decode_time_ms"),
    "error": ("code", "message", "retriable"),
}
Variants = Iterator[tuple[str, Exchange]]


@on_events("drop-event")
def drop(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    yield "", edited(stream.exchange, (start, end, b""))


@on_events("duplicate-event")
def duplicate(stream: Stream, event: Event) -> Variants:
    _, end = block(event)
    yield "", edited(stream.exchange, (end, end, block_bytes(stream, event)))


@on_events("swap-with-next")
def swap(stream: Stream, event: Event) -> Variants:
    if event.index + 1 < len(stream.events):
        later = stream.events[event.index + 1]
        start, middle = block(event)
        _, end = block(later)
        body = stream.exchange.body
        yield f"{later.kind}", edited(stream.exchange, (start, end, body[middle:end] + body[start:middle]))


@on_events("token-after-terminal")
def late_token(stream: Stream, event: Event) -> Variants:
    if event.kind == "token" and stream.terminal is not None:
        start, end = block(event)
        size = len(stream.exchange.body)
        yield "", edited(stream.exchange, (start, end, b""), (size, size, block_bytes(stream, event)))


@on_events("move-to-front")
def to_front(stream: Stream, event: Event) -> Variants:
    if event.index > 0:
        start, end = block(event)
        yield "", edited(stream.exchange, (0, 0, block_bytes(stream, event)), (start, end, b""))


@on_events("truncate-after")
def truncate_after(stream: Stream, event: Event) -> Variants:
    _, end = block(event)
    size = len(stream.exchange.body)
    if end < size:
        for how in ("eof", "reset", "timeout"):
            cut = edited(stream.exchange, (end, size, b""))
            late = (cut.closed_at or 0.0) + (30.0 if how == "timeout" else 0.0)
            yield how, replace(cut, end=how, closed_at=late, error="" if how == "eof" else how)


@on_events("truncate-inside")
def truncate_inside(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    size = len(stream.exchange.body)
    for what, at in (
        ("name", start + 9),
        ("data", (start + end) // 2),
        ("blank line", end - 1),
        ("last line", end - 2),
    ):
        yield what, edited(stream.exchange, (at, size, b""))


@on_events("flip-byte")
def flip(stream: Stream, event: Event) -> Variants:
    """The lowest bit of one byte of each part of the event."""
    start, _ = block(event)
    low, high = payload_range(event)
    name_at = start + len("event: ")
    parts = {
        "field event": start + 2,
        "colon": start + 5,
        "name": name_at,
        "name's last letter": name_at + len(event.kind) - 1,
        "line end": name_at + len(event.kind),
        "field data": low - 5,
        "opening brace": low,
        "closing brace": high - 1,
        "data line end": high,
        "blank line": high + 1,
    }
    for key in CONTRACT.get(event.kind, ()):
        at = stream.exchange.body.index(f'"{key}":'.encode(), low)
        parts[f"key {key}"] = at + 1
        parts[f"quote before {key}"] = at
        value = at + len(key) + 3
        parts[f"value {key}"] = value + (stream.exchange.body[value : value + 1] == b'"')
    for what, at in parts.items():
        byte = stream.exchange.body[at]
        yield what, edited(stream.exchange, (at, at + 1, bytes([byte ^ 1])))


@on_events("ill-formed-byte")
def ill_formed(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    low, _ = payload_range(event)
    for what, at, byte in (
        ("name", start + 8, b"\xff"),
        ("payload", low + 6, b"\xc3"),
        ("payload, lead", low + 7, b"\x80"),
    ):
        yield what, edited(stream.exchange, (at, at + 1, byte))
    yield "NUL", edited(stream.exchange, (end - 2, end - 2, b"\0"))


@on_events("replace-letter")
def replacement_character(stream: Stream, event: Event) -> Variants:
    text = event.data.get("t")
    if isinstance(text, str) and text:
        for what, letter in (("U+FFFD", "\ufffd"), ("another", "q")):
            yield f"t/{what}", with_payload(stream, event, {**event.data, "t": letter + text[1:]})
        yield "t/escaped half", with_payload(stream, event, written({**event.data, "t": "?"}).replace(b"?", b"\\ud83d"))


@on_events("remove-field")
def remove_field(stream: Stream, event: Event) -> Variants:
    for key in CONTRACT.get(event.kind, ()):
        yield key, with_payload(stream, event, {name: value for name, value in event.data.items() if name != key})


@on_events("rename-field")
def rename_field(stream: Stream, event: Event) -> Variants:
    for key in CONTRACT.get(event.kind, ()):
        other = key.upper() if key.islower() and len(key) > 1 else f"{key}{key}"
        yield (
            key,
            with_payload(stream, event, {other if name == key else name: value for name, value in event.data.items()}),
        )


@on_events("retype-field")
def retype_field(stream: Stream, event: Event) -> Variants:
    for key in CONTRACT.get(event.kind, ()):
        value = event.data[key]
        others: dict[str, Any] = {"null": None, "list": [value], "object": {"value": value}}
        if isinstance(value, bool):
            others |= {"text": str(value).lower(), "number": int(value)}
        elif isinstance(value, int):
            others |= {"text": str(value), "true": True, "float": value + 0.5}
        else:
            others |= {"number": 7, "false": False}
        for what, other in others.items():
            yield f"{key}/{what}", with_payload(stream, event, {**event.data, key: other})


@on_events("off-by-one")
def off_by_one(stream: Stream, event: Event) -> Variants:
    for key in ("i", "tokens_out", "decode_time_ms"):
        if key in event.data:
            for step in (1, -1):
                yield f"{key}/{step:+}", with_payload(stream, event, {**event.data, key: event.data[key] + step})


@on_events("wild-number")
def wild_number(stream: Stream, event: Event) -> Variants:
    for key in ("i", "tokens_out", "decode_time_ms"):
        if key in event.data:
            for value in (-1, 2**31, 2**63):
                yield f"{key}/{value}", with_payload(stream, event, {**event.data, key: value})


@on_events("placeholder")
def placeholder(stream: Stream, event: Event) -> Variants:
    values = {"job_id": ("", "job"), "model": ("", " ", "model"), "code": ("", "ERROR", "cancelled"), "message": ("",)}
    for key, others in values.items():
        for other in others if key in event.data else ():
            yield f"{key}/{other!r}", with_payload(stream, event, {**event.data, key: other})


@on_events("shift-clock")
def shift_clock(stream: Stream, event: Event) -> Variants:
    if event.kind != "started":
        return
    told = dt.datetime.fromisoformat(event.data["started_at"])
    for what, text in {
        "an hour late": (told + dt.timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
        "a minute early": (told - dt.timedelta(minutes=1)).isoformat().replace("+00:00", "Z"),
        "1970": "1970-01-01T00:00:00Z",
        "no zone": told.replace(tzinfo=None).isoformat(),
        "offset": told.astimezone(dt.timezone(dt.timedelta(hours=2))).isoformat(),
        "blank": event.data["started_at"].replace("T", " "),
        "day only": told.date().isoformat(),
        "month 13": event.data["started_at"].replace("-11-", "-13-"),
    }.items():
        yield what, with_payload(stream, event, {**event.data, "started_at": text})


@on_events("rename-event")
def rename_event(stream: Stream, event: Event) -> Variants:
    start, _ = block(event)
    low, high = start + 7, start + 7 + len(event.kind)
    for name in ("Token", "message", "done", event.kind.upper(), f"{event.kind} ", *(CONTRACT.keys() - {event.kind})):
        yield repr(name), edited(stream.exchange, (low, high, name.encode()))


@on_events("remove-line")
def remove_line(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    first = event.raw.lines[0]
    yield "event", edited(stream.exchange, (start, first.byte + len(first.raw) + 1, b""))
    yield "data", edited(stream.exchange, (first.byte + len(first.raw) + 1, end - 1, b""))
    yield "blank", edited(stream.exchange, (end - 1, end, b""))


@on_events("insert-line")
def insert_line(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    for what, line in {
        "unknown field": b"foo: bar\n",
        "no colon": b"data\n",
        "second event": b"event: token\n",
        "second data": b"data: {}\n",
        "loose text": b"hello\n",
        "upper case": b"DATA: {}\n",
    }.items():
        yield what, edited(stream.exchange, (end - 1, end - 1, line))
    yield "before: BOM", edited(stream.exchange, (start, start, b"\xef\xbb\xbf"))


@on_events("insert-event")
def insert_event(stream: Stream, event: Event) -> Variants:
    _, end = block(event)
    for what, data in {
        "second started": b'event: started\ndata: {"job_id":"o","model":"m","started_at":"2026-01-01T00:00:00Z"}\n\n',
        "terminal end": b'event: end\ndata: {"tokens_out":0,"decode_time_ms":0}\n\n',
        "terminal error": b'event: error\ndata: {"code":"INTERNAL","message":"m","retriable":false}\n\n',
        "stray token": b'event: token\ndata: {"t":"stray","i":99}\n\n',
        "heartbeat": b"event: heartbeat\ndata: {}\n\n",
        "nameless": b"data: {}\n\n",
        "done": b"data: [DONE]\n\n",
        "no data": b"event: token\n\n",
    }.items():
        yield what, edited(stream.exchange, (end, end, data))


@on_events("damage-json")
def damage_json(stream: Stream, event: Event) -> Variants:
    low, high = payload_range(event)
    text = stream.exchange.body[low:high]
    for what, data in {
        "trailing comma": text[:-1] + b",}",
        "single quotes": text.replace(b'"', b"'"),
        "array": b"[" + text + b"]",
        "two": text + text,
        "NaN": text[:-1] + b',"x":NaN}',
        "duplicate key": text[:-1] + b"," + text[1:],
        "text": b'"' + text.replace(b'"', b"'") + b'"',
        "null": b"null",
        "empty": b"",
        "cut": text[:-1],
        "comment": text + b" // end",
    }.items():
        yield what, edited(stream.exchange, (low, high, data))


@on_events("lone-cr")
def lone_cr(stream: Stream, event: Event) -> Variants:
    start, end = block(event)
    lines = stream.exchange.body[start:end].replace(b"\n", b"\r")
    yield "all line ends", edited(stream.exchange, (start, end, lines))
    yield "the blank line", edited(stream.exchange, (end - 1, end, b"\r"))

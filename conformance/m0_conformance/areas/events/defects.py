"""Defects of what the events say: fields of started, token, end and error."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.lie import on_event

if TYPE_CHECKING:
    from m0_conformance.saboteur.http import Request


@on_event("M0-W-1312/json-object", source="a dictionary printed in place of being encoded")
def payload_not_json(event: Event) -> list[Event]:
    """Payloads are written in Python's notation, with single quotes."""
    if event.name == "started":
        event.raw = f"event: started\ndata: {event.data!r}\n\n".encode()
    return [event]


@on_event(
    "M0-W-1312/json-object", source="string concatenation in place of an encoder; parsers silently keep one of the two"
)
def payload_duplicate_key(event: Event) -> list[Event]:
    """The payload of end holds tokens_out twice."""
    if event.name == "end":
        text = json.dumps(event.data)
        event.raw = f'event: end\ndata: {{"tokens_out": 0, {text[1:]}\n\n'.encode()
    return [event]


@on_event(
    "M0-W-1312/json-object",
    collateral=(
        "M0-W-1312/end-decode-time",
        "M0-W-1312/end-fields",
        "M0-W-1421/penalty-zero",
        "M0-W-1312/end-tokens-out",
    ),
    source="reading E-TEMP0: NaN anywhere in the stream",
)
def payload_nan(event: Event) -> list[Event]:
    """decode_time_ms is NaN, which is no JSON."""
    if event.name == "end":
        event.raw = f"event: end\ndata: {json.dumps({**event.data, 'decode_time_ms': float('nan')})}\n\n".encode()
    return [event]


@on_event(
    "M0-W-1312/end-tokens-out",
    collateral=(
        "M0-W-1420/next-token",
        "M0-W-1362/text-exact",
        "M0-W-1800/completes",
        "M0-SYS-6.3.1/incremental",
        "M0-W-1330/accepts",
        "M0-W-1300/max-tokens-reached",
    ),
    source="a buffered answer behind a streaming interface",
)
def no_token_events(event: Event) -> list[Event]:
    """All text comes in end, no token event is sent."""
    return [] if event.name == "token" else [event]


ABSENT: Any = object()


class Field(Defect):
    """Sets, or takes away, one field of one kind of event."""

    kind: ClassVar[str] = ""
    field: ClassVar[str] = ""
    value: ClassVar[Any] = ABSENT

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == self.kind:
            if self.value is ABSENT:
                event.data.pop(self.field, None)
            else:
                event.data[self.field] = self.value
        return [event]


class TokenWithoutText(Field):
    name = "token-without-text"
    about = "Token events lack t."
    kills = ("M0-W-1312/token-fields",)
    collateral = (
        "M0-W-1420/next-token", "M0-W-1362/text-exact", "M0-W-1422/stops", "M0-W-1422/absent-string",
        "M0-W-1362/eos-silent", "M0-W-1362/unfinished-at-end", "M0-W-1362/invalid-byte",
    )  # fmt: skip
    source = "a renamed field"
    kind, field = "token", "t"


class TokenNull(Field):
    name = "token-text-null"
    about = "t is null while a character is incomplete, and otherwise."
    kills = ("M0-W-1312/token-fields",)
    collateral = TokenWithoutText.collateral
    source = "an optional type that leaks"
    kind, field, value = "token", "t", None


@on_event("M0-W-1312/token-index", source="known defect 31")
def index_from_one(event: Event) -> list[Event]:
    """i counts from 1."""
    if event.name == "token":
        event.data["i"] += 1
    return [event]


class IndexAcrossJobs(Defect):
    name = "index-across-jobs"
    about = "i comes from a counter of the whole process."
    kills = ("M0-W-1312/token-index",)
    source = "known defect 31"

    def __init__(self) -> None:
        self.counter = itertools.count()

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token":
            event.data["i"] = next(self.counter)
        return [event]


@on_event("M0-W-1312/token-index", source="UTF-8 buffering that counts swallowed tokens")
def index_gap(event: Event) -> list[Event]:
    """i skips a number after the third token."""
    if event.name == "token" and event.data["i"] >= 3:
        event.data["i"] += 1
    return [event]


@on_event("M0-W-1312/end-tokens-out", source="known defect 31; the end-of-sequence token counted")
def tokens_out_off_by_one(event: Event) -> list[Event]:
    """tokens_out counts one token too many."""
    if event.name == "end":
        event.data["tokens_out"] += 1
    return [event]

"""Defects of what the events say: fields of started, token, end and error."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect, Event

if TYPE_CHECKING:
    from m0_conformance.saboteur.http import Request


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


class NoTokens(Defect):
    name = "no-token-events"
    about = "All text comes in end, no token event is sent."
    kills = ("M0-W-1312/end-tokens-out",)
    collateral = (
        "M0-W-1420/next-token", "M0-W-1362/text-exact", "M0-W-1800/completes", "M0-SYS-6.3.1/incremental",
        "M0-W-1330/accepts", "M0-W-1300/max-tokens-reached",
    )  # fmt: skip
    source = "a buffered answer behind a streaming interface"

    def event(self, request: Request, event: Event) -> list[Event]:
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


class StartedWithoutModel(Field):
    name = "started-without-model"
    about = "started lacks its model."
    kills = ("M0-W-1312/started-fields",)
    source = "known defect 11: fields lost"
    kind, field = "started", "model"


class StartedOtherJob(Field):
    name = "started-other-job"
    about = "started names another job."
    kills = ("M0-W-1312/started-job-id",)
    source = "state kept between requests"
    kind, field, value = "started", "job_id", "job-0"


class PlaceholderModel(Field):
    name = "started-placeholder-model"
    about = "started says model, /health says something else."
    kills = ("M0-W-1312/started-model",)
    source = "known defect 10: dialect C's literal constant"
    kind, field, value = "started", "model", "placeholder"


class StartedAtZero(Field):
    name = "started-at-zero"
    about = "started_at is the text 0."
    kills = ("M0-W-1312/started-at-format",)
    source = "known defect 10: dialect C's literal constant"
    kind, field, value = "started", "started_at", "0"


class StartedAtOld(Field):
    name = "started-at-old"
    about = "started_at is well formed and years old."
    kills = ("M0-W-1312/started-at-now",)
    source = "a placeholder in a template"
    kind, field, value = "started", "started_at", "2020-01-01T00:00:00Z"


class StartedAtLocal(Field):
    name = "started-at-local"
    about = "started_at has no zone."
    kills = ("M0-W-1312/started-at-format",)
    source = "a clock printed without Z"
    kind, field, value = "started", "started_at", "2026-11-21T10:00:00"


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


class IndexFromOne(Defect):
    name = "index-from-one"
    about = "i counts from 1."
    kills = ("M0-W-1312/token-index",)
    source = "known defect 31"

    def event(self, request: Request, event: Event) -> list[Event]:
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


class IndexGap(Defect):
    name = "index-gap"
    about = "i skips a number after the third token."
    kills = ("M0-W-1312/token-index",)
    source = "UTF-8 buffering that counts swallowed tokens"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and event.data["i"] >= 3:
            event.data["i"] += 1
        return [event]


class EndWithoutTime(Field):
    name = "end-without-time"
    about = "end lacks decode_time_ms."
    kills = ("M0-W-1312/end-fields",)
    source = "a renamed field"
    kind, field = "end", "decode_time_ms"


class TokensOutOff(Defect):
    name = "tokens-out-off-by-one"
    about = "tokens_out counts one token too many."
    kills = ("M0-W-1312/end-tokens-out",)
    source = "known defect 31; the end-of-sequence token counted"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "end":
            event.data["tokens_out"] += 1
        return [event]


class NegativeTime(Field):
    name = "decode-time-negative"
    about = "decode_time_ms is -1."
    kills = ("M0-W-1312/end-fields",)
    source = "a clock that is not monotonic"
    kind, field, value = "end", "decode_time_ms", -1


class HugeTime(Field):
    name = "decode-time-in-microseconds"
    about = "decode_time_ms is longer than the whole exchange took."
    kills = ("M0-W-1312/end-decode-time",)
    source = "a wrong unit"
    kind, field, value = "end", "decode_time_ms", 987654321


class ErrorWithoutMessage(Field):
    name = "error-without-message"
    about = "Error events lack their message."
    kills = ("M0-W-1312/error-fields",)
    source = "known defect 7"
    kind, field = "error", "message"


class ErrorWithoutRetriable(Field):
    name = "error-without-retriable"
    about = "Error events lack retriable."
    kills = ("M0-W-1510/retriable",)
    source = "known defect 7"
    kind, field = "error", "retriable"


class RetriableText(Field):
    name = "retriable-as-text"
    about = "retriable is the text false, which is true in most languages."
    kills = ("M0-W-1510/retriable",)
    source = "a boolean formatted by hand"
    kind, field, value = "error", "retriable", "false"


class UnknownCode(Field):
    name = "unknown-error-code"
    about = "Errors carry INFERENCE_FAILED, which M0 does not have."
    kills = ("M0-W-1500/code-set",)
    collateral = ("M0-W-1330/cancelled-event", "M0-W-1330/waiting-job")
    source = "known defect 7"
    kind, field, value = "error", "code", "INFERENCE_FAILED"

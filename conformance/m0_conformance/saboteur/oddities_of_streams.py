"""Oddities of the event stream: its bytes and the fields of its events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.http import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Request
from m0_conformance.saboteur.oddity import HEALTH, REQUESTS, STREAMS, Oddity, odd_answer, odd_bytes, odd_event, odd_form

# ---- bytes of the stream ------------------------------------------------------------------------------------------


@odd_form()
def odd_crlf(event: Event) -> bytes:
    """Lines end with CR LF."""
    return event.encode().replace(b"\n", b"\r\n")


@odd_form()
def odd_comments(event: Event) -> bytes:
    """Comments stand before, inside and after events, the last one after the terminal event."""
    return b": before\n" + event.encode().replace(b"\ndata:", b"\n:inside\ndata:") + b": after\n\n"


@odd_bytes()
async def odd_keep_alive(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Empty comments keep the connection alive while a job waits or runs."""
    yield b":\n\n"
    async for event in events:
        yield b":\n\n"
        yield event.encode()


@odd_form()
def odd_blank_lines(event: Event) -> bytes:
    """Several blank lines stand between events."""
    return b"\n\n" + event.encode() + b"\n"


@odd_bytes(
    watch=(  # jobs that meet are left out: the proxy would fall behind the worker
        "M0-W-1362/text-exact",
        "M0-W-1824/no-replacement",
        "M0-W-1311/no-tokens",
        "M0-W-1422/across-tokens",
        "M0-SYS-2.3.1/greedy-repeat",
    )
)
async def odd_chunk_splits_char(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Chunks of three bytes cut lines and characters in two."""
    async for event in events:
        raw = event.encode()
        for start in range(0, len(raw), 3):
            yield raw[start : start + 3]


@odd_bytes()
async def odd_coalesced(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Four events arrive together, and the terminal event with those before it."""
    kept: list[bytes] = []
    async for event in events:
        kept.append(event.encode())
        if len(kept) == 4 or event.terminal or event.name == "started":
            yield b"".join(kept)
            kept.clear()


@odd_form()
def odd_no_space(event: Event) -> bytes:
    """No space follows the colon of a field."""
    return event.encode().replace(b"event: ", b"event:", 1).replace(b"\ndata: ", b"\ndata:", 1)


@odd_form()
def odd_data_first(event: Event) -> bytes:
    """The data line comes before the event line."""
    first, second, rest = event.encode().split(b"\n", 2)
    return second + b"\n" + first + b"\n" + rest


@odd_form()
def odd_several_data_lines(event: Event) -> bytes:
    """The JSON object is spread over several data lines."""
    lines = json.dumps(event.data, ensure_ascii=False, indent=1).split("\n")
    return "".join([f"event: {event.name}\n", *(f"data: {line}\n" for line in lines), "\n"]).encode()


@odd_form()
def odd_id_and_retry(event: Event) -> bytes:
    """Events carry id and retry lines."""
    return b"id: 17\nretry: 3000\n" + event.encode()


@odd_form()
def odd_json_escapes(event: Event) -> bytes:
    """Letters outside ASCII are written as JSON escapes, characters above U+FFFF as two of them."""
    return f"event: {event.name}\ndata: {json.dumps(event.data)}\n\n".encode()


@odd_form()
def odd_slash_escapes(event: Event) -> bytes:
    """Letters that need no escape are escaped as well."""
    text = json.dumps(event.data).replace(" m", " \\u006d").replace("/", "\\/")
    return f"event: {event.name}\ndata: {text}\n\n".encode()


@odd_form()
def odd_huge_events(event: Event) -> bytes:
    """Events carry a field of a hundred kilobytes now and then."""
    if event.terminal or event.name == "started":
        event.data["trace"] = "x" * 100_000
    return event.encode()


# ---- fields -------------------------------------------------------------------------------------------------------


class MoreFields(Oddity):
    name = "odd-more-fields"
    about = "Events, /health and refusals carry fields that M0 does not know."
    watch = (*STREAMS, *REQUESTS, *HEALTH)

    def event(self, request: Request, event: Event) -> list[Event]:
        event.data |= {"type": event.name, "trace_id": "4f2a", "logprob": -0.25, "extra": {"a": [None, True]}}
        return [event]

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "queue": {"length": 0}, "build": None}

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if answer.head.status == 400 and isinstance(body := answer.json(), dict):
            return json_answer(400, {**body, "request_id": "9c", "documentation": "see the manual", "hints": []})
        return answer


class OtherOrder(Oddity):
    name = "odd-key-order"
    about = "Keys come in the opposite order."
    watch = (*STREAMS, *HEALTH)

    def event(self, request: Request, event: Event) -> list[Event]:
        event.data = dict(reversed(event.data.items()))
        return [event]

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return dict(reversed(body.items()))


@odd_event(watch=(*STREAMS, *REQUESTS))
def odd_only_required_fields(event: Event) -> list[Event]:
    """end holds tokens_out and decode_time_ms only, a refusal code, message and the field."""
    if event.name == "end":
        event.data = {name: event.data[name] for name in ("tokens_out", "decode_time_ms")}
    return [event]


@odd_answer(watch=REQUESTS)
def odd_nested_errors(answer: Answer) -> Answer:
    """Refusals hold their members inside the key error, as other servers do."""
    if answer.head.status == 400 and isinstance(body := answer.json(), dict):
        return json_answer(400, {"error": body})
    return answer


@odd_answer(watch=REQUESTS)
def odd_refusals_without_retriable(answer: Answer) -> Answer:
    """Refusals do not say whether they can be retried."""
    if answer.head.status == 400 and isinstance(body := answer.json(), dict):
        return json_answer(400, {name: value for name, value in body.items() if name != "retriable"})
    return answer


@odd_event()
def odd_fraction_of_second(event: Event) -> list[Event]:
    """started_at carries nine digits of a second."""
    if event.name == "started":
        event.data["started_at"] = event.data["started_at"].split(".")[0].rstrip("Z") + ".123456789Z"
    return [event]


@odd_event()
def odd_zero_decode_time(event: Event) -> list[Event]:
    """Very short jobs report a decode time of 0 ms."""
    if event.name == "end" and event.data["tokens_out"] < 3:
        event.data["decode_time_ms"] = 0
    return [event]


@odd_event()
def odd_metrics_events(event: Event) -> list[Event]:
    """metrics events come between the tokens."""
    numbers = {"tokens_per_second": 41.5, "vram_bytes": 0}
    return [event, Event("metrics", numbers)] if event.name == "token" else [event]


class HeldText(Oddity):
    name = "odd-empty-t"
    about = "Every second token's text is held back and comes with the next one's."
    watch = (*STREAMS, "M0-W-1032/scales", "M0-W-1421/top-k-cut")

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        kept, last = "", None
        async for event in events:
            if event.name == "token":
                if last is not None:
                    yield last
                kept, last = kept + event.data["t"], event
                event.data["t"], kept = ("", kept) if event.data["i"] % 2 == 0 else (kept, "")
                continue
            if last is not None:
                last.data["t"], kept = last.data["t"] + kept, ""
                yield last
                last = None
            yield event


class PlainHealth(Oddity):
    name = "odd-health-nulls"
    about = "What is unknown is null in /health, and uptime is a fraction."
    watch = HEALTH

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            **body,
            "context_length": None,
            "sm": None,
            "cuda_runtime_version": None,
            "uptime_seconds": body["uptime_seconds"] + 0.25,
        }

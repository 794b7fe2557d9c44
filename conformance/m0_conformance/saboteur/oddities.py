"""Workers that are unusual and conform: nothing about them may be red.

`watch` names clauses whose checks must see the oddity, besides the sentinels that see everything.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, json_answer
from m0_conformance.saboteur.lie import lie
from m0_conformance.saboteur.lies import is_cancel, is_execute, is_health, job_of, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Head, Request

STREAMS = (
    "M0-W-1362/text-exact", "M0-W-1824/no-replacement", "M0-W-1311/no-tokens", "M0-W-1422/across-tokens",
    "M0-SYS-2.3.1/greedy-repeat", "M0-W-1330/idempotent", "M0-W-1301/second-answered", "M0-W-1300/max-tokens-bound",
)  # fmt: skip
REQUESTS = ("M0-W-1302/wrong-types", "M0-W-1300/top-k-range", "M0-W-1302/unknown-path", "M0-W-1330/validates-body")
MEETINGS = (
    "M0-W-1301/second-answered", "M0-W-1301/duplicate-active", "M0-W-1301/after-disconnect", "M0-W-1330/waiting-job",
    "M0-W-1330/unknown-job", "M0-W-1330/finished-job", "M0-W-1330/idempotent",
)  # fmt: skip
HEALTH = ("M0-W-1320/status", "M0-W-1001/model-constant")


class Oddity(Defect):
    """Kills nothing."""

    oddity = True
    watch: ClassVar[tuple[str, ...]] = STREAMS


odd_request = lie("request", Oddity)
odd_head = lie("stream_head", Oddity)
odd_event = lie("event", Oddity)
odd_bytes = lie("encode", Oddity)
odd_answer = lie("answer", Oddity)


class Bytes(Oddity):
    """Writes events in another form."""

    def form(self, event: Event) -> bytes:
        """The bytes of one event."""
        raise NotImplementedError

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        async for event in events:
            yield self.form(event)


odd_form = lie("form", Bytes)


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


# ---- HTTP ---------------------------------------------------------------------------------------------------------


class HeaderCase(Oddity):
    name = "odd-header-case"
    about = "Header names and media types are in capitals."
    watch = (*STREAMS, *REQUESTS, *HEALTH)

    def stream_head(self, request: Request, head: Head) -> Head:
        framing = {"transfer-encoding", "connection"}
        head.headers = [(k if k in framing else k.upper(), v) for k, v in head.headers]
        return head

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        media = ("CONTENT-TYPE", "Application/JSON")
        answer.head.headers = [media if k.lower() == "content-type" else (k, v) for k, v in answer.head.headers]
        return answer


class Charset(Oddity):
    name = "odd-charset"
    about = "Content types carry a charset."
    watch = (*STREAMS, *REQUESTS, *HEALTH)

    def stream_head(self, request: Request, head: Head) -> Head:
        head.set("content-type", "text/event-stream; charset=utf-8")
        return head

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if answer.head.header("content-type") == "application/json":
            answer.head.set("content-type", 'application/json;charset="UTF-8"')
        return answer


class MoreHeaders(Oddity):
    name = "odd-more-headers"
    about = "Answers carry Server, Date, caching and vendor headers, some of them twice."

    def stream_head(self, request: Request, head: Head) -> Head:
        more = [("Server", "x/1"), ("Date", "Mon, 01 Jan 2024 00:00:00 GMT"), ("Cache-Control", "no-cache")]
        head.headers += [*more, ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"), ("Vary", "*")]
        return head

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        answer.head.headers += [("Server", "x/1"), ("Date", "Mon, 01 Jan 2024 00:00:00 GMT"), ("ETag", '"1"')]
        return answer


class OldHttp(Oddity):
    name = "odd-http-1.0"
    about = "Streams are HTTP/1.0: they end where the connection does."

    def stream_head(self, request: Request, head: Head) -> Head:
        head.version = "HTTP/1.0"
        head.set("transfer-encoding", None)
        return head


@odd_head()
def odd_close_delimited(head: Head) -> Head:
    """Streams are HTTP/1.1 without chunks: they end where the connection does."""
    head.set("transfer-encoding", None)
    return head


class Reason(Oddity):
    name = "odd-reason-phrase"
    about = "Status lines carry unusual reason phrases."
    watch = (*STREAMS, *REQUESTS)

    def stream_head(self, request: Request, head: Head) -> Head:
        head.reason = "Here It Comes"
        return head

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        answer.head.reason = "As You Wish"
        return answer


# ---- time ---------------------------------------------------------------------------------------------------------


class SlowStart(Oddity):
    name = "odd-slow-start"
    about = "The worker opens its port three seconds after its model is loaded."
    watch = HEALTH

    async def ready(self, proxy: Proxy) -> None:
        await asyncio.sleep(3.0)


class TakesTime(Oddity):
    """Lets time pass inside jobs. The real worker is ahead of it, so a cancelled job must end here."""

    def __init__(self) -> None:
        self.cancelled: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_cancel(request):
            self.cancelled.add(job_of(request))
        return request

    async def pause(self, event: Event) -> None:
        """What passes before an event."""
        raise NotImplementedError

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        async for event in events:
            await self.pause(event)
            if event.name == "started" or event.terminal or job_of(request) not in self.cancelled:
                yield event
                continue
            yield Event("error", {"code": "CANCELLED", "message": "the job was cancelled", "retriable": False})
            return


class SlowTokens(TakesTime):
    name = "odd-slow-tokens"
    about = "A token takes 10 ms."
    watch = ("M0-W-1300/max-tokens-bound", "M0-SYS-2.3.1/greedy-repeat", "M0-W-1330/idempotent")

    async def pause(self, event: Event) -> None:
        if event.name == "token":
            await asyncio.sleep(0.01)


class SlowClose(Oddity):
    name = "odd-slow-close"
    about = "The body ends 300 ms after the terminal event."
    watch = ("M0-W-1301/second-answered", "M0-SYS-2.3.1/greedy-repeat")

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        await asyncio.sleep(0.3)


class SlowFirst(TakesTime):
    name = "odd-slow-first-token"
    about = "A job takes 300 ms before its first token, as a long prompt does."
    watch = ("M0-SYS-2.3.1/greedy-repeat", "M0-W-1311/no-tokens", "M0-W-1362/text-exact")

    async def pause(self, event: Event) -> None:
        if event.data.get("i") == 0:
            await asyncio.sleep(0.3)


# ---- choices that M0 leaves open ----------------------------------------------------------------------------------


class Busy(Oddity):
    """Refuses a second job; subclasses say how."""

    watch = MEETINGS
    status = 503
    headers: tuple[tuple[str, str], ...] = ()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if not is_execute(request):
            return request
        for _ in range(20):  # a job whose terminal event was sent is over, though its connection may still be open
            if not proxy.running:
                return request
            await asyncio.sleep(0.005)
        body = {"code": "INTERNAL", "message": "busy", "retriable": True}
        return json_answer(self.status, body, **dict(self.headers))


@odd_request(watch=MEETINGS)
def odd_twin_409(request: Request, proxy: Proxy) -> Request | Answer:
    """A job_id that runs already is refused with 409; other jobs wait."""
    if is_execute(request) and job_of(request) in proxy.running:
        return refusal("job_id", "runs already", status=409)
    return request


class UnknownJob404(Oddity):
    name = "odd-unknown-cancel-404"
    about = "Cancelling a job that is not there, or not there any more, is answered with 404."
    watch = MEETINGS

    def __init__(self) -> None:
        self.cancelled: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        job = request.json().get("job_id")
        if not is_cancel(request) or not isinstance(job, str) or not job:
            return request
        if job in proxy.running or job in self.cancelled:
            self.cancelled.add(job)
            return request
        return json_answer(404, {"code": "INVALID_REQUEST", "message": "no such job_id", "retriable": False})


@odd_answer(watch=(*MEETINGS, "M0-W-1330/validates-body"))
def odd_cancel_without_body(request: Request, answer: Answer) -> Answer:
    """A cancel is answered with 202 and no body."""
    if is_cancel(request) and answer.head.status == 202:
        answer.head.set("content-type", None)
        return Answer(answer.head, b"")
    return answer


class UnknownFieldsRefused(Oddity):
    name = "odd-unknown-fields-refused"
    about = "Fields that M0 does not know are refused with 400."
    watch = ("M0-W-1302/wrong-types", "M0-W-1300/minimal-body", "M0-W-1421/min-p-zero")
    known = frozenset({
        "job_id", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop",
        "seed",
    })  # fmt: skip

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        strange = sorted(set(request.json()) - self.known) if is_execute(request) else []
        return refusal(strange[0], "is not known") if strange else request


@odd_answer(watch=REQUESTS)
def odd_wrong_method_404(request: Request, answer: Answer) -> Answer:
    """The wrong method is answered with 404, in plain text."""
    if answer.head.status == 405 and not is_health(request):
        answer.head.status = 404
        answer.head.set("content-type", "text/plain")
        return Answer(answer.head, b"not found")
    return answer

"""Oddities of answers: HTTP, time, and choices that M0 leaves open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.http import Answer, json_answer
from m0_conformance.saboteur.lies import is_cancel, is_execute, is_health, job_of, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Head, Request
from m0_conformance.saboteur.oddity import (
    HEALTH,
    MEETINGS,
    REQUESTS,
    STREAMS,
    Oddity,
    odd_answer,
    odd_head,
    odd_request,
)

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

"""Defects of POST /cancel: running, waiting, finished and unknown jobs, and how soon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, Request, json_answer
from m0_conformance.saboteur.lie import on_answer, on_request
from m0_conformance.saboteur.lies import Rewrites, cancel, integer, is_cancel, is_execute, job_of, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy


class ErrorAsEnd(Defect):
    name = "error-as-end"
    about = "A failed or cancelled job ends with end, as if it had gone well."
    kills = ("M0-W-1330/cancelled-event",)
    collateral = (
        "M0-W-1312/end-fields",
        "M0-W-1312/end-tokens-out",
        "M0-W-1312/end-decode-time",
        "M0-W-1330/waiting-job",
    )
    source = "known defect 5: an error swallowed so that the stream looks finished"

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}

    def event(self, request: Request, event: Event) -> list[Event]:
        job = str(request.json().get("job_id"))
        if event.name == "token":
            self.tokens[job] = self.tokens.get(job, 0) + 1
        if event.name != "error":
            return [event]
        return [Event("end", {"tokens_out": self.tokens.get(job, 0), "decode_time_ms": 1, "stop_reason": "CANCELLED"})]


@on_request("M0-W-1330/validates-body", source="a handler that does not read its body")
def cancel_takes_anything(request: Request) -> Request | Answer:
    """A cancel without a usable job_id is answered with 202."""
    if is_cancel(request) and not (isinstance(job := request.json().get("job_id"), str) and job):
        return json_answer(202, {"status": "accepted"})
    return request


@on_answer("M0-W-1330/validates-body", source="known defect 15")
def cancel_422(request: Request, answer: Answer) -> Answer:
    """A cancel without a usable job_id is answered with 422."""
    if is_cancel(request) and answer.head.status == 400:
        answer.head.status = 422
    return answer


def accepted() -> Answer:
    """What the worker would have said to a cancel."""
    return json_answer(202, {"status": "accepted"})


@on_request(
    "M0-W-1330/cancelled-event",
    "M0-SYS-6.3.5/stops-early",
    collateral=("M0-W-1330/within-100ms", "M0-W-1330/waiting-job"),
    source="known defect 12",
)
def cancel_swallowed(request: Request, proxy: Proxy) -> Request | Answer:
    """A cancel is accepted and nothing happens."""
    return accepted() if is_cancel(request) and job_of(request) in proxy.running else request


class CancelForShow(Defect):
    name = "cancel-for-show"
    about = "A cancelled job is computed and sent to its end, and then called cancelled."
    kills = ("M0-SYS-6.3.5/stops-early",)
    collateral = ("M0-W-1330/within-100ms",)
    source = "known defect 12: a flag that is read after the loop"

    def __init__(self) -> None:
        self.named: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_cancel(request) and (job := job_of(request)) in proxy.running:
            self.named.add(job)
            return accepted()
        return request

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "end" and job_of(request) in self.named:
            return [Event("error", {"code": "CANCELLED", "message": "the job was cancelled", "retriable": False})]
        return [event]


@on_answer(
    "M0-W-1330/accepts",
    collateral=("M0-W-1330/unknown-job", "M0-W-1330/finished-job"),
    source="a framework's default status",
)
def cancel_says_200(request: Request, answer: Answer) -> Answer:
    """A cancel is answered with 200."""
    if is_cancel(request) and answer.head.status == 202:
        answer.head.status = 200
    return answer


class CancelLate(Defect):
    name = "cancel-takes-6-s"
    about = "The terminal event of a cancelled job comes six seconds after its cancel."
    kills = ("M0-W-1330/within-5s",)
    collateral: ClassVar[tuple[str, ...]] = ("M0-W-1330/within-100ms",)
    source = "a cancel that is looked for once every few seconds"
    pause = 6.0

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        async for event in events:
            if event.name == "error" and event.data.get("code") == "CANCELLED":
                await asyncio.sleep(self.pause)
            yield event


class SecondCancel409(Defect):
    name = "second-cancel-409"
    about = "A second cancel of the same job is a conflict."
    kills = ("M0-W-1330/idempotent",)
    source = "a state machine without an edge"

    def __init__(self) -> None:
        self.named: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        job = job_of(request)
        if is_cancel(request) and job in self.named:
            return json_answer(409, {"code": "INVALID_REQUEST", "message": "already cancelled", "retriable": False})
        if is_cancel(request):
            self.named.add(job)
        return request


class UnknownCancel400(Defect):
    name = "unknown-cancel-400"
    about = "Cancelling a job that never was is an invalid request."
    kills = ("M0-W-1330/unknown-job",)
    source = "a lookup error taken for a bad request"

    def __init__(self) -> None:
        self.jobs: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request):
            self.jobs.add(job_of(request))
        if is_cancel(request) and isinstance(request.json().get("job_id"), str) and job_of(request) not in self.jobs:
            return refusal("job_id", "is not known")
        return request


class FinishedCancel409(Defect):
    name = "finished-cancel-409"
    about = "Cancelling a job that has ended is a conflict."
    kills = ("M0-W-1330/finished-job",)
    collateral = ("M0-W-1330/idempotent",)
    source = "a state machine without an edge"

    def __init__(self) -> None:
        self.ended: set[str] = set()

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        self.ended.add(job_of(request))

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_cancel(request) and job_of(request) in self.ended:
            return json_answer(409, {"code": "INVALID_REQUEST", "message": "it has ended", "retriable": False})
        return request


class LateCancelHitsNext(Defect):
    name = "late-cancel-hits-next"
    about = "The cancel of a job that has ended ends the next one."
    kills = ("M0-W-1330/finished-job",)
    source = "a cancel flag that nobody resets"
    armed = False

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_cancel(request) and isinstance(request.json().get("job_id"), str):
            self.armed = self.armed or not proxy.running
        return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        hit, self.armed = self.armed, False
        async for event in events:
            if hit and event.name != "started":
                yield Event("error", {"code": "CANCELLED", "message": "the job was cancelled", "retriable": False})
                return
            yield event


@on_request("M0-W-1330/only-named-job", source="one flag for the whole worker")
async def cancel_hits_running_job(request: Request, proxy: Proxy) -> Request | Answer:
    """Any cancel ends the job that runs."""
    if is_cancel(request) and (job := request.json().get("job_id")) and job not in proxy.running:
        for running in list(proxy.running):
            await cancel(proxy, running)
    return request


class WaitingRuns(Defect):
    name = "waiting-cancel-lost"
    about = "A cancel of a job that waits for its turn is lost."
    kills = ("M0-W-1330/waiting-job",)
    source = "known defect 12: only the running job is looked up"

    def __init__(self) -> None:
        self.begun: set[str] = set()

    def event(self, request: Request, event: Event) -> list[Event]:
        self.begun.add(job_of(request))
        return [event]

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        waits = is_cancel(request) and (job := job_of(request)) in proxy.running and job not in self.begun
        return accepted() if waits else request


class CancelPoisons(Rewrites):
    name = "cancel-poisons-next"
    about = "After a cancelled job the next one is cut short."
    kills = ("M0-W-1330/next-job",)
    source = "known defect 47: a cache that is not cleared"
    poisoned = False

    def event(self, request: Request, event: Event) -> list[Event]:
        self.poisoned = self.poisoned or event.data.get("code") == "CANCELLED"
        return [event]

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        if not self.poisoned or not integer(job.get("max_tokens")):
            return None
        self.poisoned = False
        return {**job, "max_tokens": max(1, min(5, job["max_tokens"]))}

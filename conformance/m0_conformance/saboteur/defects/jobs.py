"""Jobs that meet, are cancelled, or follow one another: M0-W-1301, 1330, 1320, M0-SYS-6.3."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, Request, json_answer
from m0_conformance.saboteur.lies import (
    OTHER_TEXT,
    Rewrites,
    failure,
    is_cancel,
    is_execute,
    is_health,
    job_of,
    refusal,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.proxy import Proxy


def accepted() -> Answer:
    """What the worker would have said to a cancel."""
    return json_answer(202, {"status": "accepted"})


async def cancel(proxy: Proxy, job: str) -> None:
    """Cancel a job at the worker."""
    empty = Request("POST", "/cancel", (("Content-Type", "application/json"),), b"")
    await proxy.ask(empty.with_json({"job_id": job}))


# ---- jobs that meet -----------------------------------------------------------------------------------------------


class Concurrent(Defect):
    name = "concurrent-jobs"
    about = "Two jobs run at the same time."
    kills = ("M0-W-1301/no-interleave",)
    collateral = ("M0-W-1301/solo-equal",)
    source = "known defect 3: no serialization on a runtime of many threads"
    workers = 2

    def __init__(self) -> None:
        self.turn = 0

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request):
            self.turn = 1 if proxy.running else 0
        return request

    def worker_of(self, request: Request) -> int:
        """The second worker for a job that comes while one runs."""
        return self.turn if is_execute(request) else 0


class SecondRefusedBadly(Defect):
    name = "second-job-400"
    about = "A job that comes while one runs is refused as invalid."
    kills = ("M0-W-1301/second-answered",)
    source = "busy reported as a client's fault"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        return refusal("job", "cannot run now") if is_execute(request) and proxy.running else request


class SecondIsSilent(Defect):
    name = "second-job-empty-stream"
    about = "A job that comes while one runs gets an empty stream."
    kills = ("M0-W-1301/second-answered",)
    collateral = ("M0-W-1311/one-terminal",)
    source = "known defect 5"

    def __init__(self) -> None:
        self.dropped: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request) and proxy.running:
            self.dropped.add(job_of(request))
        return request

    def event(self, request: Request, event: Event) -> list[Event]:
        return [] if job_of(request) in self.dropped else [event]


class OverlapMixes(Defect):
    name = "overlapping-job-differs"
    about = "A job that had to wait says something else than alone."
    kills = ("M0-W-1301/solo-equal",)
    source = "known defect 47: a cache that is not cleared between jobs"

    def __init__(self) -> None:
        self.late: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request) and proxy.running:
            self.late.add(job_of(request))
        return request

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and job_of(request) in self.late:
            event.data["t"] = event.data["t"].translate(OTHER_TEXT) + "!"
        return [event]


class TwinKills(Defect):
    name = "twin-replaces-job"
    about = "A second request with a running job's job_id ends the running one."
    kills = ("M0-W-1301/duplicate-active",)
    source = "a table keyed by job_id whose entry is replaced"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request) and (job := job_of(request)) in proxy.running:
            await cancel(proxy, job)
            while job in proxy.running:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.005)
        return request


class LeaversPoison(Rewrites):
    name = "disconnect-poisons-next"
    about = "After a client hung up, jobs are cut short."
    kills = ("M0-W-1301/after-disconnect",)
    source = "pegainfer #215, lattice #744: state of an abandoned job left behind"
    poisoned = False

    def client_left(self, request: Request) -> bool:
        self.poisoned = True
        return True

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        await asyncio.sleep(0.05)  # a connection that was closed before this request came is seen first
        return await super().request(request, proxy)

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("max_tokens")
        return {**job, "max_tokens": 4} if self.poisoned and whole(asked) and 4 < asked <= 2048 else None


class HealthWaits(Defect):
    name = "health-blocked"
    about = "GET /health is answered only between jobs."
    kills = ("M0-W-1320/while-generating",)
    source = "known defect 2: the event loop is blocked during inference"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_health(request) and proxy.running:
            await asyncio.sleep(1.5)
            while proxy.running:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        count = 0
        async for event in events:
            count += 1
            if request.json().get("max_tokens") is None and 2 < count < 100:
                await asyncio.sleep(0.03)  # a generation long enough for a second of silence to be seen
            yield event


class ValidJobsFail(Defect):
    name = "valid-jobs-fail"
    about = "Jobs at a temperature between 0 and 1 end with an error."
    kills = ("M0-SYS-6.3.1/valid-job-ends", "M0-W-1800/completes")
    source = "a NaN in one branch of the sampler"

    def event(self, request: Request, event: Event) -> list[Event]:
        temperature = request.json().get("temperature", 1.0)
        return [failure()] if event.name == "end" and 0.0 < temperature < 1.0 else [event]


class HaikuFails(Defect):
    name = "fiftieth-token-fails"
    about = "Sampled jobs end with an error when they reach their fiftieth token."
    kills = ("M0-W-1800/completes",)
    source = "a fixed buffer"

    def event(self, request: Request, event: Event) -> list[Event]:
        job = request.json()
        fails = event.name == "end" and job.get("max_tokens") == 50 and job.get("temperature", 1.0) > 0.0
        return [failure()] if fails else [event]


class EmptyJobsFail(Defect):
    name = "no-tokens-is-an-error"
    about = "A job whose model ends at once is ended by an error."
    kills = ("M0-W-1311/no-tokens",)
    source = "an empty result taken for a failure"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [failure("no output")] if event.name == "end" and event.data.get("tokens_out") == 0 else [event]


class ModelChanges(Defect):
    name = "model-name-changes"
    about = "After some jobs the worker names another model."
    kills = ("M0-W-1001/model-constant",)
    collateral = ("M0-W-1312/started-model",)
    source = "a name that is put together anew for each answer"
    jobs = 0

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "started":
            self.jobs += 1
            event.data["model"] += "-b" if self.jobs % 2 == 0 else ""
        return [event]


# ---- cancel -------------------------------------------------------------------------------------------------------


class CancelSwallowed(Defect):
    name = "cancel-swallowed"
    about = "A cancel is accepted and nothing happens."
    kills = ("M0-W-1330/cancelled-event", "M0-SYS-6.3.5/stops-early")
    collateral = ("M0-W-1330/within-100ms", "M0-W-1330/waiting-job")
    source = "known defect 12"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
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


class CancelSays200(Defect):
    name = "cancel-says-200"
    about = "A cancel is answered with 200."
    kills = ("M0-W-1330/accepts",)
    collateral = ("M0-W-1330/unknown-job", "M0-W-1330/finished-job")
    source = "a framework's default status"

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
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


class CancelSluggish(CancelLate):
    name = "cancel-takes-250-ms"
    about = "The terminal event of a cancelled job comes a quarter of a second after its cancel."
    kills = ("M0-W-1330/within-100ms",)
    collateral = ()
    source = "a cancel that is looked for every few tokens"
    pause = 0.25


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


class CancelHitsAll(Defect):
    name = "cancel-hits-running-job"
    about = "Any cancel ends the job that runs."
    kills = ("M0-W-1330/only-named-job",)
    source = "one flag for the whole worker"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
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
        if not self.poisoned or not whole(job.get("max_tokens")):
            return None
        self.poisoned = False
        return {**job, "max_tokens": max(1, min(5, job["max_tokens"]))}

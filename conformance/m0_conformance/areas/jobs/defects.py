"""Defects of jobs that meet: one at a time, the second, the same job_id, clients that leave, any history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.lie import on_request
from m0_conformance.saboteur.lies import OTHER_TEXT, Rewrites, cancel, integer, is_execute, job_of, refusal

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Answer, Request


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


@on_request("M0-W-1301/second-answered", source="busy reported as a client's fault")
def second_job_400(request: Request, proxy: Proxy) -> Request | Answer:
    """A job that comes while one runs is refused as invalid."""
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


@on_request("M0-W-1301/duplicate-active", source="a table keyed by job_id whose entry is replaced")
async def twin_replaces_job(request: Request, proxy: Proxy) -> Request | Answer:
    """A second request with a running job's job_id ends the running one."""
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
        return {**job, "max_tokens": 4} if self.poisoned and integer(asked) and 4 < asked <= 2048 else None

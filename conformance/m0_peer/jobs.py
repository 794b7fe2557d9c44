"""One job at a time (M0-W-1301): the line they wait in, how they are stopped, and the thread that computes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from m0_peer.errors import Code, JobError, RefusedError
from m0_peer.text import StopFinder, texts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from concurrent.futures import Executor

    from m0_peer.engine import Model
    from m0_peer.requests import ExecuteRequest


class Job:
    """A job from its admission to its terminal event."""

    def __init__(self, request: ExecuteRequest, prompt: list[int]) -> None:
        self.request = request
        self.prompt = prompt
        self.reason = ""
        self.woken = asyncio.Event()
        self._stopped: JobError | None = None

    def stop(self, code: Code, message: str) -> None:
        """End the job with an `error` event, wherever it is; the first reason counts. Event loop only."""
        if self._stopped is None:
            self._stopped = JobError(code, message)
        self.woken.set()

    def raise_if_stopped(self) -> None:
        """Raise the reason the job was stopped for. Any thread."""
        if self._stopped is not None:
            raise self._stopped


class Line:
    """The running job and those that wait behind it, in the order they came."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._jobs: deque[Job] = deque()  # the first one runs
        self.draining = False
        self.empty = asyncio.Event()
        self.empty.set()

    @property
    def running(self) -> Job | None:
        """The job whose turn it is."""
        return self._jobs[0] if self._jobs else None

    def find(self, job_id: str) -> Job | None:
        """The running or waiting job of this ID."""
        return next((job for job in self._jobs if job.request.job_id == job_id), None)

    def enter(self, job: Job) -> None:
        """Let a job in.

        Raises:
            RefusedError: the worker drains, the line is full, or the job_id is taken.
        """
        if self.draining:
            raise RefusedError(503, "the worker is shutting down", code=Code.INTERNAL)
        if self.find(job.request.job_id) is not None:
            # A cancel could not tell the two apart.
            message = "job_id names a job that runs or waits"
            raise RefusedError(400, message, [{"field": "job_id", "constraint": "unique", "message": message}])
        if len(self._jobs) > self._depth:
            raise RefusedError(503, f"one job runs and {self._depth} wait, more may not", code=Code.INTERNAL)
        self._jobs.append(job)
        self.empty.clear()
        self._jobs[0].woken.set()

    def leave(self, job: Job) -> None:
        """A job is over: the next one's turn comes."""
        self._jobs.remove(job)
        if self._jobs:
            self._jobs[0].woken.set()
        else:
            self.empty.set()

    def drain(self) -> None:
        """Let nobody in any more; those that wait end, the running job may go on."""
        self.draining = True
        for job in list(self._jobs)[1:]:
            job.stop(Code.CANCELLED, "the worker is shutting down")


async def run(job: Job, model: Model, computing: Executor, timeout_s: float) -> AsyncGenerator[list[str], None]:
    """Generate on the computing thread; yields the texts of one or more tokens as soon as they are there.

    The thread never waits for the client. When this ends, by whatever way, the thread is done with the job and its KV
    cache is free.

    Raises:
        JobError: the job was stopped, took too long, or failed.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[str | None] = asyncio.Queue()

    def compute() -> None:
        try:
            with contextlib.closing(model.pieces(job.prompt, job.request, job)) as pieces:
                stops = StopFinder(job.request.stop)
                for text in texts(pieces, stops):
                    loop.call_soon_threadsafe(told.put_nowait, text)
                if stops.found is not None:
                    job.reason = "STOP_SEQUENCE"
        finally:
            loop.call_soon_threadsafe(told.put_nowait, None)

    timeout = loop.call_later(
        timeout_s, job.stop, Code.INFERENCE_TIMEOUT, f"the job ran longer than {timeout_s:g} seconds"
    )
    computed = loop.run_in_executor(computing, compute)
    try:
        done = False
        while not done:
            ready = [await told.get()]
            while not told.empty():
                ready.append(told.get_nowait())
            done = ready[-1] is None
            if new := [text for text in ready if text is not None]:
                yield new
        await computed
    finally:
        timeout.cancel()
        job.stop(Code.CANCELLED, "nobody listens any more")
        await asyncio.wait([computed])

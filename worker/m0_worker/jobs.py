"""The turnstile: one job runs, others wait in arrival order (M0-W-1301).

Everything happens in one thread, on the event loop, so there is no lock. A job is ended from outside (cancel, client
gone, time is up, worker shuts down) by one mechanism: its asyncio timeout is moved to now, which interrupts it at its
next await, be it in the line, between two steps or in a write that a slow client holds up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from m0_worker.generation import Ending, Request

# The event loop gets its turns when this much time has passed, not at every step: turns and writes are system calls. It
# gets as many as a new connection needs to be accepted, read and answered: /health must not wait for several steps.
# Right behind a token the next step has just been launched and the turns cost a device nothing; in the middle of a step
# they may hold up the one after it, so there they wait a little longer.
_TURN_EVERY_S = 0.0003
_TURN_WITHIN_S = 0.002
_TURNS = 6


class Abort(Enum):
    """Why a job was ended from outside."""

    CANCELLED = "cancelled"
    CLIENT_GONE = "client_gone"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"


class Aborted(Exception):  # noqa: N818 - an event, not an error
    """A job was ended from outside."""

    def __init__(self, why: Abort) -> None:
        super().__init__(why.value)
        self.why = why


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """A job that is not let in; the text says why."""


class LineFullError(Refused):
    """As many jobs wait as may."""


class DrainingError(Refused):
    """The worker shuts down."""


class DuplicateJobError(Refused):
    """A job with this ID is running or waiting."""


class Job:
    """One admitted request."""

    __slots__ = ("_limit", "_stoppable", "abort", "correlation_id", "request", "turn")

    def __init__(self, request: Request, correlation_id: str) -> None:
        self.request = request
        self.correlation_id = correlation_id
        self.abort: Abort | None = None
        self.turn: asyncio.Future[None] | None = None
        self._limit = asyncio.timeout(None)
        self._stoppable = False  # true while the timeout is entered

    def stop(self, why: Abort) -> None:
        """End the job from outside; the first reason stays."""
        if self.abort is None:
            self.abort = why
            if self._stoppable and not self._limit.expired():
                self._limit.reschedule(0)

    async def limited(self, work: Callable[[], Awaitable[Ending]]) -> Ending:
        """Do the job's work until it ends or is ended.

        Raises:
            Aborted: with the reason.
        """
        if self.abort is not None:
            raise Aborted(self.abort)
        try:
            async with self._limit:
                self._stoppable = True
                try:
                    return await work()
                finally:
                    self._stoppable = False
        except TimeoutError:
            if not self._limit.expired():
                raise  # somebody else's
            raise Aborted(self.abort or Abort.TIMEOUT) from None

    def start_clock(self, seconds: float) -> None:
        """From now on the job may run this long."""
        if self.abort is None:
            self._limit.reschedule(asyncio.get_running_loop().time() + seconds)


class Turnstile:
    """Lets one job through at a time."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._waiting: deque[Job] = deque()
        self._emptied: Callable[[], None] | None = None
        self.running: Job | None = None

    @property
    def waiting(self) -> int:
        """Jobs in the line."""
        return len(self._waiting)

    @property
    def draining(self) -> bool:
        """True once the worker shuts down."""
        return self._emptied is not None

    def find(self, job_id: str) -> Job | None:
        """The running or waiting job with this ID."""
        jobs = (self.running, *self._waiting)
        return next((job for job in jobs if job is not None and job.request.job_id == job_id), None)

    def admit(self, job: Job) -> None:
        """Give a job its place: running if nobody is, else at the end of the line.

        Raises:
            DrainingError, DuplicateJobError, LineFullError: it is not let in.
        """
        if self.draining:
            raise DrainingError("the worker is shutting down")
        if self.find(job.request.job_id) is not None:
            raise DuplicateJobError("a job with this ID is running or waiting")
        job.turn = asyncio.get_running_loop().create_future()
        if self.running is None:
            self.running = job
            job.turn.set_result(None)
        elif len(self._waiting) < self._depth:
            self._waiting.append(job)
        else:
            raise LineFullError(f"one job runs and {len(self._waiting)} wait, which is as many as may")

    def leave(self, job: Job) -> None:
        """A job is over, wherever it was; the next in line runs."""
        if self.running is not job:
            if job in self._waiting:
                self._waiting.remove(job)
            return
        self.running = self._waiting.popleft() if self._waiting else None
        if self.running is not None and self.running.turn is not None:
            if not self.running.turn.done():
                self.running.turn.set_result(None)
        elif self._emptied is not None:
            self._emptied()

    def drain(self, emptied: Callable[[], None]) -> None:
        """Let nobody in any more, end the jobs that wait, and call `emptied` when the running one is over."""
        self._emptied = emptied
        for job in self._waiting:
            job.stop(Abort.SHUTDOWN)
        if self.running is None:
            emptied()


async def drive(steps: Generator[str | None, None, Ending], write: Callable[[list[str]], Awaitable[None]]) -> Ending:
    """Step a generation to its end, writing the tokens' texts and giving the event loop its turns in between.

    The first token is written at once, every later one at the next turn: what a slow model says goes out token by
    token, what a very fast one says within a third of a millisecond goes out together.
    """
    turn_at = perf_counter()
    texts: list[str] = []
    wrote = False
    try:
        while True:
            try:
                text = next(steps)
            except StopIteration as finished:
                ending: Ending = finished.value
                break
            if text is None:
                due = perf_counter() - turn_at > _TURN_WITHIN_S
            else:
                texts.append(text)
                due = not wrote or perf_counter() - turn_at > _TURN_EVERY_S
            if due:
                if texts:
                    await write(texts)
                    texts = []
                    wrote = True
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                turn_at = perf_counter()
        if texts:
            await write(texts)
        return ending
    finally:
        steps.close()  # frees the KV cache before the client hears that the job is over

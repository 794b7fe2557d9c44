"""The event stream of one job, as a response: `started`, the tokens and exactly one terminal event (M0-W-1311).

A `Response` of our own: a token costs one call of `send`. FastAPI's event-stream response validates and encodes each
item, hands it through two queues, and puts comments into the stream when a model is slow.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import Response

from m0_worker.errors import Code, WorkerError
from m0_worker.http import sse
from m0_worker.jobs import Abort, Aborted, Job
from m0_worker.narration import timestamp
from m0_worker.service import Outcome

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from m0_worker.service import Service

# How long the terminal event may wait for a client that stopped reading, while other jobs wait for this one.
_LAST_EVENTS_S = 1.0

# How each way of ending a job from outside is told to its client.
_ABORTS = {
    Abort.CANCELLED: (Code.CANCELLED, "the job was cancelled", False),
    Abort.CLIENT_GONE: (Code.CANCELLED, "the client closed the connection", True),
    Abort.TIMEOUT: (Code.INFERENCE_TIMEOUT, "the job ran longer than --inference-timeout-sec allows", True),
    Abort.SHUTDOWN: (Code.CANCELLED, "the worker is shutting down", True),
}
_OUTCOMES = {
    Abort.CANCELLED: "cancelled",
    Abort.CLIENT_GONE: "disconnected",
    Abort.TIMEOUT: "timeout",
    Abort.SHUTDOWN: "cancelled",
}


class JobStream(Response):
    """Runs a job that has its place at the turnstile, and leaves the turnstile when it is over, however that comes."""

    media_type = "text/event-stream"

    def __init__(self, service: Service, job: Job, remaining_s: float | None, status_code: int = 200) -> None:
        self.status_code = status_code
        self.background = None
        # All headers, given by name: the type takes no charset, and nobody knows the length.
        self.init_headers({"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"})
        self._service = service
        self._job = job
        self._remaining_s = remaining_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the whole stream."""
        watcher = asyncio.create_task(_watch(receive, self._job))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._run(send)
        finally:
            watcher.cancel()
            self._service.turnstile.leave(self._job)

    async def _run(self, send: Send) -> None:
        service, job, outcome = self._service, self._job, Outcome()
        texts = outcome.texts
        started = False

        async def begin() -> None:
            nonlocal started
            started = True
            service.narrate_start(job, self._remaining_s)
            request = job.request
            body = sse.started(request.job_id, service.identity.model, timestamp(), request.seed)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        async def write(new: list[str]) -> None:
            body = b"".join(sse.token(text, index) for index, text in enumerate(new, len(texts)))
            await send({"type": "http.response.body", "body": body, "more_body": True})
            texts.extend(new)

        try:
            ending = await service.run(job, outcome, begin, write)
        except Aborted as aborted:
            code, message, retriable = _ABORTS[aborted.why]
            result, detail = _OUTCOMES[aborted.why], aborted.why.value
            terminal = sse.error(code, message, retriable=retriable)
        except WorkerError as error:
            service.narrate_error(error, job)
            result, detail = "error", error.code.name
            terminal = sse.error(error.code, error.message, retriable=error.retriable)
        except Exception as error:  # noqa: BLE001 - the worker outlives whatever a job runs into (M0-W-1021)
            # The message may quote the client's text, so the type and the place are all that is told.
            failure = WorkerError(f"unexpected {type(error).__name__} at {_place(error)}")
            service.narrate_error(failure, job)
            result, detail = "error", failure.code.name
            terminal = sse.error(failure.code, "the worker failed unexpectedly", retriable=failure.retriable)
        else:
            result, detail = "success", ending.reason.value
            terminal = sse.end(len(texts), round(outcome.duration_ms()), detail, ending.stop)
        try:
            async with asyncio.timeout(_LAST_EVENTS_S):
                if not started:  # ended in the line: its stream, and its log, are well-formed all the same
                    await begin()
                await send({"type": "http.response.body", "body": terminal})
        except TimeoutError:
            detail = f"{detail}, client does not read"
        service.narrate_end(job, outcome, result, detail)


async def _watch(receive: Receive, job: Job) -> None:
    """End the job when its client goes away (M0-W-1611): `receive` answers then, at the next turn of the event loop."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.stop(Abort.CLIENT_GONE)


def _place(error: BaseException) -> str:
    """The innermost file and line of a traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"

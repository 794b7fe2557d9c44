"""POST /execute: from a body to an event stream."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from m0_worker.errors import Code, WorkerError
from m0_worker.http import sse
from m0_worker.http.exchange import HttpError
from m0_worker.http.schema import parse_execute
from m0_worker.http.strict_json import check_content_type, parse_object
from m0_worker.jobs import Abort, Aborted, DuplicateJobError, Job, Refused
from m0_worker.narration import timestamp
from m0_worker.service import Outcome

if TYPE_CHECKING:
    from m0_worker.http.exchange import Exchange
    from m0_worker.service import Service

# How long the terminal event may wait for a client that stopped reading, while other jobs wait for this one.
_PARTING_S = 1.0

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


def deadline_remaining(header: bytes | None) -> float | None:
    """Seconds until an X-Deadline header: a Unix time in seconds or milliseconds, or ISO 8601; None if it is neither.

    It is logged and counted, never enforced (spec section 14.1 #8).
    """
    if header is None:
        return None
    text = header.decode("latin-1").strip()
    try:
        moment = float(text)
        moment = moment / 1e3 if moment > 1e11 else moment  # seconds pass 1e11 in the year 5138
    except ValueError:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            return None
        moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    remaining = moment - time.time()
    return remaining if abs(remaining) < 1e12 else None  # NaN and infinity are no times


async def execute(service: Service, exchange: Exchange) -> None:
    """Answer POST /execute."""
    try:
        job = _admit(service, exchange, await exchange.body())
    except HttpError:
        service.metrics.rejected()
        raise
    watcher = asyncio.create_task(_watch(exchange, job))
    try:
        await exchange.begin_stream()
        await _stream(service, exchange, job)
    finally:
        watcher.cancel()
        service.turnstile.leave(job)


def _admit(service: Service, exchange: Exchange, body: bytes) -> Job:
    """The job that a body asks for, in its place at the turnstile.

    Raises:
        HttpError: 400, 413 or 415 for a bad request, 503 while the line is full or the worker shuts down.
    """
    check_content_type(exchange.headers.get(b"content-type"))
    job = Job(parse_execute(parse_object(body), service.limits), exchange.correlation_id)
    try:
        service.turnstile.admit(job)
    except DuplicateJobError as error:
        raise HttpError.of_field(400, "job_id", "unique", str(error)) from error
    except Refused as error:
        # No stable code says "busy"; of the eight, INTERNAL with retriable is the one that promises nothing false.
        retry = [(b"retry-after", b"1")]
        raise HttpError(503, str(error), code=Code.INTERNAL, retriable=True, headers=retry) from error
    return job


async def _watch(exchange: Exchange, job: Job) -> None:
    """End the job when its client goes away (M0-W-1611): `receive` answers then, at the next turn of the event loop."""
    while (await exchange.receive())["type"] != "http.disconnect":
        pass
    job.stop(Abort.CLIENT_GONE)


async def _stream(service: Service, exchange: Exchange, job: Job) -> None:
    """Send `started`, the tokens and exactly one terminal event (M0-W-1311)."""
    outcome = Outcome()
    texts, send = outcome.texts, exchange.send
    started = False

    async def begin() -> None:
        nonlocal started
        started = True
        service.narrate_start(job, remaining)
        request = job.request
        await exchange.write(sse.started(request.job_id, service.identity.model, timestamp(), request.seed))

    async def write(new: list[str]) -> None:
        body = b"".join(sse.token(text, index) for index, text in enumerate(new, len(texts)))
        await send({"type": "http.response.body", "body": body, "more_body": True})
        texts.extend(new)

    remaining = deadline_remaining(exchange.headers.get(b"x-deadline"))
    if remaining is not None:
        service.metrics.deadline(remaining)
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
        async with asyncio.timeout(_PARTING_S):
            if not started:  # ended in the line: its stream, and its log, are well-formed all the same
                await begin()
            await exchange.finish(terminal)
    except TimeoutError:
        detail = f"{detail}, client does not read"
    service.narrate_end(job, outcome, result, detail)


def _place(error: BaseException) -> str:
    """The innermost file and line of a traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"

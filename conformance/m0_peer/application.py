"""HTTP (M0-W-1300, 1320, 1330): three routes, JSON errors, and the path of one job through them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from m0_peer import jobs
from m0_peer.errors import Code, JobError, RefusedError
from m0_peer.events import EventStream
from m0_peer.requests import Limits, parse_cancel, parse_execute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from m0_peer.arguments import Settings
    from m0_peer.engine import Model
    from m0_peer.log import Log

_MAX_BODY: Final = 4 << 20
_BODY_WITHIN_S: Final = 30.0
# A client that stops reading holds the line up for all others, so it is let go.
_WRITE_WITHIN_S: Final = 5.0


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give every refusal M0's error body, the web framework's own refusals too."""
    try:
        return await handler(request)
    except RefusedError as error:
        return web.json_response(error.body, status=error.status)
    except web.HTTPException as error:
        refused = RefusedError(error.status, f"{request.method} {request.path}: {error.reason}")
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.json_response(refused.body, status=error.status, headers=allowed)
    except ConnectionError:
        raise  # nobody is there to be answered
    except Exception as error:  # noqa: BLE001  # whatever it is, the client is told in M0's words
        failed = RefusedError(500, f"unexpected {type(error).__name__}", code=Code.INTERNAL)
        return web.json_response(failed.body, status=500)


class Worker:
    """The HTTP side of one worker."""

    def __init__(self, settings: Settings, model: Model, computing: Executor, log: Log) -> None:
        self.line = jobs.Line(settings.queue_depth)
        self._settings = settings
        self._model = model
        self._computing = computing
        self._log = log
        self._ready_at = time.monotonic()
        self._healthy = True
        self._limits = Limits(
            vocab_size=model.vocab_size,
            max_tokens_out=settings.max_tokens_out,
            stop_tokens=lambda text: len(model.tokenize(text, begin=False)),
        )
        self._max_tokens_in = min(model.context_length, settings.max_tokens_in or model.context_length)

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(middlewares=[_errors_as_json], client_max_size=_MAX_BODY)
        application.router.add_post("/execute", self.execute)
        application.router.add_post("/cancel", self.cancel)
        application.router.add_get("/health", self.health)
        return application

    def vram_bytes(self) -> int:
        """Bytes of weights and of the running job's KV cache (M0-W-1011); on a CPU they are host memory."""
        return self._model.weight_bytes + self._model.cache_bytes

    async def health(self, _request: web.Request) -> web.Response:
        """GET /health, from what is already known: it answers while a job runs."""
        model = self._model
        state = {
            "status": "healthy" if self._healthy else "unhealthy",
            "model": model.header.name,
            "uptime_seconds": int(time.monotonic() - self._ready_at),
            "resident": False,  # no weight is in device memory: there is no device
            "vram_bytes_used": self.vram_bytes(),
            "vocab_size": model.vocab_size,
            "context_length": model.context_length,
            "quant_kind": model.header.quant_kind,
            "tokenizer_kind": "gguf-bpe",
            "worker_id": self._settings.worker_id,
            "device": "cpu",
        }
        return web.json_response(state)

    async def cancel(self, request: web.Request) -> web.Response:
        """POST /cancel: 202 whether or not there is such a job, for it may just have ended."""
        job_id = parse_cancel(await _body(request))
        job = self.line.find(job_id)
        if job is not None:
            job.stop(Code.CANCELLED, "the job was cancelled")
        return web.json_response({"job_id": job_id, "was_active": job is not None}, status=202)

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """POST /execute: everything that can be refused is refused before the first byte of the stream."""
        body = await _body(request)
        # Nothing is awaited between here and the line: a cancel that came in between would miss its job.
        job = self._parse(body)
        self.line.enter(job)
        try:
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            )
            await _within(response.prepare(request), request)
            await job.woken.wait()
            await self._stream(job, request, response)
        finally:
            self.line.leave(job)
        return response

    def _parse(self, body: bytes) -> jobs.Job:
        request = parse_execute(body, self._limits)
        tokens = self._model.tokenize(request.prompt, begin=True)
        if not 0 < len(tokens) <= self._max_tokens_in:
            message = f"prompt has {len(tokens)} tokens, 1 to {self._max_tokens_in} are allowed"
            rule = f"max_tokens({self._max_tokens_in})"
            raise RefusedError(400, message, [{"field": "prompt", "constraint": rule, "message": message}])
        return jobs.Job(request, tokens)

    async def _stream(self, job: jobs.Job, request: web.Request, response: web.StreamResponse) -> None:
        job_id = job.request.job_id
        events = EventStream(job_id, self._model.header.name, job.request.seed)
        began = time.perf_counter()
        outcome = "disconnected"

        async def write(data: bytes) -> None:
            await _within(response.write(data), request)

        self._log.event("execute_start", job_id=job_id)
        try:
            await write(events.started())
            job.raise_if_stopped()  # cancelled while it waited
            computed = jobs.run(job, self._model, self._computing, self._settings.inference_timeout_s)
            try:
                async for texts in computed:
                    await write(b"".join(map(events.token, texts)))
            finally:
                await computed.aclose()
            outcome, self._healthy = "success", True
            terminal = events.end(time.perf_counter() - began, job.reason)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  # a stream that began gets its terminal event, whatever happens
            code = error.code if isinstance(error, JobError) else Code.INTERNAL
            told = str(error) if isinstance(error, JobError) else f"unexpected {type(error).__name__}"
            outcome = code.value
            self._healthy = self._healthy and code is not Code.VRAM_OOM  # until a job succeeds (M0-W-1021)
            terminal = events.error(code, told)
            if code is not Code.CANCELLED:
                self._log.event("error", "ERROR", job_id=job_id, code=code.value, message=told)
        finally:
            self._log.event("execute_end", job_id=job_id, outcome=outcome)
        await write(terminal)
        await _within(response.write_eof(), request)


async def _within(writing: Awaitable[object], request: web.Request) -> None:
    """Write, but not for ever.

    Raises:
        ConnectionResetError: the client does not read, or is gone.
    """
    try:
        async with asyncio.timeout(_WRITE_WITHIN_S):
            await writing
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read") from None


async def _body(request: web.Request) -> bytes:
    """The body of a POST.

    A web page of another site can send text/plain without asking, so a declared type must be JSON. Nor is anything
    unpacked here: a few kilobytes can become gigabytes.

    Raises:
        RefusedError: 415, 408.
        web.HTTPException: 413.
    """
    wrong = []
    if "Content-Type" in request.headers and request.content_type != "application/json":
        wrong.append(("content-type", "application/json"))
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        wrong.append(("content-encoding", "identity"))
    if wrong:
        errors = [{"field": name, "constraint": due, "message": f"{name} must be {due}"} for name, due in wrong]
        raise RefusedError(415, "; ".join(error["message"] for error in errors), errors)
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            return await request.read()
    except TimeoutError:
        raise RefusedError(408, "the body did not come within 30 seconds") from None

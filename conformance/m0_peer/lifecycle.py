"""From start to exit code (M0-W-1110, 1111, 1340): load, listen, ready; then a signal, drain, 0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from m0_peer.application import Worker
from m0_peer.engine import Model
from m0_peer.errors import Code, LoadError
from m0_peer.log import Log

if TYPE_CHECKING:
    import socket

    from m0_peer.arguments import Settings

_DRAIN_S: Final = 20.0  # the running job may go on so long; the last write and the log come after it, all within 30 s
_CLOSE_S: Final = 2.0


class _Stop:
    """The wish to end, from the first signal on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.again = asyncio.Event()

    def signal(self) -> None:
        (self.again if self.asked.is_set() else self.asked).set()


def run(settings: Settings, listener: socket.socket) -> int:
    """Live until told to end; the exit code is 0, or 1 where the start failed."""
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())  # else its warnings go to a stderr nobody reads
    log = Log(settings)
    try:
        with listener, ThreadPoolExecutor(1, "computing") as computing:
            return asyncio.run(_live(settings, listener, computing, log))
    finally:
        log.close()


async def _live(settings: Settings, listener: socket.socket, computing: ThreadPoolExecutor, log: Log) -> int:
    loop = asyncio.get_running_loop()
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.signal)
    log.event("startup", device="cpu", note="weights and KV cache lie in host memory")
    try:
        model = await loop.run_in_executor(computing, _load, settings, log, stop)
        try:
            await _serve(settings, listener, Worker(settings, model, computing, log), log, stop)
        finally:
            await loop.run_in_executor(computing, model.close)
    except LoadError as error:
        if not stop.asked.is_set():
            _report(settings, log, error)
            return 1
    log.event("shutdown", phase="complete")
    return 0


def _load(settings: Settings, log: Log, stop: _Stop) -> Model:
    """Load the model, telling each quarter (M0-W-1621); a signal ends it."""
    told: set[int] = set()

    def progress(share: float) -> bool:
        for percent in (0, 25, 50, 75, 100):
            if share * 100 >= percent and percent not in told:
                told.add(percent)
                log.event("model_load_progress", percent=percent)
        return not stop.asked.is_set()

    log.event("model_load_start")
    progress(0.0)
    model = Model(settings.model, settings.threads, progress)
    progress(1.0)
    log.event("model_load_complete", model=model.header.name)
    return model


def _report(settings: Settings, log: Log, error: LoadError) -> None:
    """A failed start, in the log and in words on stderr, with the facts that M0-W-1020 and M0-W-1111 ask for."""
    log.event("error", "ERROR", code=error.code.value, message=str(error), **error.facts)
    facts = "".join(f", {name} {value}" for name, value in error.facts.items())
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stderr that is closed or gone
        sys.stderr.write(
            f"m0-peer: {error.code.value}: {error} "
            f"(model {str(settings.model)!r}, gpu-device {settings.gpu_device}{facts})\n"
        )


async def _serve(settings: Settings, listener: socket.socket, worker: Worker, log: Log, stop: _Stop) -> None:
    """Listen, say ready, work, drain.

    Raises:
        LoadError: somebody else listens on the port by now.
    """
    if stop.asked.is_set():
        return
    runner = web.AppRunner(
        worker.application(),
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        shutdown_timeout=_CLOSE_S,
        keepalive_timeout=30,
    )
    await runner.setup()
    try:
        try:
            # Two workers may both have bound the port; only one of them can listen on it.
            listener.listen(128)
            await web.SockSite(runner, listener).start()
        except OSError as error:
            raise LoadError(f"--port {settings.port} is taken: {error.strerror}", Code.INTERNAL) from error
        log.event("ready", vram_bytes=worker.vram_bytes(), device="cpu")
        callback = asyncio.create_task(_call_back(settings, worker.vram_bytes(), log))
        await stop.asked.wait()
        log.event("shutdown", phase="draining")
        callback.cancel()
        worker.line.drain()
        await _drain(worker, stop)
    finally:
        await runner.cleanup()


async def _drain(worker: Worker, stop: _Stop) -> None:
    """Wait for the running job; a second signal or the time limit ends it."""
    empty = asyncio.create_task(worker.line.empty.wait())
    again = asyncio.create_task(stop.again.wait())
    await asyncio.wait({empty, again}, timeout=_DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if (job := worker.line.running) is not None:
        job.stop(Code.CANCELLED, "the worker is shutting down")
        await asyncio.wait({empty}, timeout=_CLOSE_S)
    empty.cancel()


async def _call_back(settings: Settings, vram_bytes: int, log: Log) -> None:
    """Tell `--callback-url` that the worker is ready. That it fails is logged, never fatal."""
    if settings.callback_url is None:
        return
    document = {
        "worker_id": settings.worker_id,
        "vram_bytes": vram_bytes,
        "uri": f"http://{settings.host}:{settings.port}",
        "model_ref": str(settings.model),
    }
    try:
        async with (
            asyncio.timeout(5.0),
            aiohttp.ClientSession() as session,
            session.post(settings.callback_url, json=document) as answer,  # its body is nobody's business
        ):
            log.event("callback", status=answer.status)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        log.event("callback", "WARN", reason=type(error).__name__)

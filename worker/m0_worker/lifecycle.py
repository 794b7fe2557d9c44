"""From a checked command line to an exit code: the start-up order of M0-W-1110, its failures, and the way down.

device -> model -> listen -> ready -> callback; SIGTERM, SIGINT or POST /shutdown -> drain -> exit 0.
"""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from m0_worker.callback import report_ready, uri
from m0_worker.checkpoints import Recorder, Settings
from m0_worker.devices import open_device
from m0_worker.engine import ModelError, load_model
from m0_worker.errors import Code, DeviceError, ModelLoadError, OutOfMemory, WorkerError
from m0_worker.gguf import GgufError
from m0_worker.jobs import Abort
from m0_worker.log_writer import ErrorStream, error_writer
from m0_worker.narration import Narrator
from m0_worker.service import Identity, Service
from m0_worker.starting import Opening, leave_compilers
from m0_worker.tokenizers import TokenizerError
from m0_worker.trial import try_out
from m0_worker.watchdog import Watchdog

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine

    from m0_worker.config import WorkerConfig
    from m0_worker.devices.interface import Device
    from m0_worker.engine import Model
    from m0_worker.gguf import GgufFile
    from m0_worker.log_writer import LogWriter
    from m0_worker.signals import Signals

# Of the 30 s that a shutdown may take in all (M0-W-1340): when recordings are given up, and when everything is.
_RECORDINGS_UNTIL_S = 28.6
_GIVE_UP_S = 29.2
_ERRORS_S = 0.3


def run(config: WorkerConfig, listener: socket.socket, signals: Signals) -> int:
    """Live as a worker until told to end; return the exit code: 0, or 1 when start-up failed (M0-W-1020, M0-W-1111)."""
    narrator = Narrator(config)
    errors = error_writer()
    sys.stderr = ErrorStream(errors)

    def leave(name: str) -> NoReturn:  # nothing is lost with the process: no job, no file, no memory but its own
        narrator.event("shutdown", reason=f"{name} while loading")
        narrator.close()
        os._exit(0)

    signals.react = leave
    try:
        code = _live(config, listener, signals, narrator)
    finally:
        signals.ignore()
        narrator.close()
        _close_errors(errors)
    if code:
        leave_compilers(code)
    return code


def _close_errors(errors: LogWriter) -> None:
    """Back to Python's own stream, which is told of nothing that waits for a reader."""
    if errors.close(_ERRORS_S):
        sys.stderr = sys.__stderr__


def _live(config: WorkerConfig, listener: socket.socket, signals: Signals, narrator: Narrator) -> int:
    device: Device | None = None
    try:
        narrator.event(
            "startup",
            device=config.device,
            **({"note": "CPU device: weights and KV cache lie in host memory"} if config.device == "cpu" else {}),
        )
        opening = Opening(config)
        device = open_device(config.device, config.gpu_device, memory_limit=config.memory_limit_bytes)
        service = _bring_up(config, device, narrator, opening)
        opening.join()
        _run_loop(_serve(config, service, device, listener, signals))
    except WorkerError as error:
        _report_failure(config, narrator, error)
        return 1
    finally:
        listener.close()
        if device is not None:
            with suppress(DeviceError):  # a broken context frees its memory with the process
                device.close()
    narrator.event("shutdown", phase="complete")
    return 0


def _bring_up(config: WorkerConfig, device: Device, narrator: Narrator, opening: Opening) -> Service:
    """Load the model.

    Raises:
        ModelLoadError: the file cannot be served.
        WorkerError: INSUFFICIENT_VRAM with the bytes needed and available.
    """
    recording = _recording(narrator)
    narrator.event("model_load_start")
    try:
        gguf, tokenizer = opening.result()
        model = load_model(
            gguf,
            device,
            kv_dtype="f16" if config.kv_cache_type == "f16" else "f32",
            progress=lambda percent: narrator.event("model_load_progress", percent=percent),
        )
        gguf.release()  # devices have copied what they keep
        _must_be_as_before(config.model, opening.before)
        try_out(model, str(config.model))
    except (GgufError, ModelError, TokenizerError) as error:
        raise ModelLoadError(str(error), facts={"reason": getattr(error, "reason", type(error).__name__)}) from error
    except (OutOfMemory, MemoryError) as error:
        message = str(error) or "host memory is exhausted"
        facts = error.facts if isinstance(error, OutOfMemory) else {}
        raise WorkerError(message, code=Code.INSUFFICIENT_VRAM, facts=facts) from error
    except OSError as error:
        raise ModelLoadError(f"the file cannot be read: {error.strerror}") from error
    except WorkerError:
        raise
    except Exception as error:
        trace = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} at {Path(trace.filename).name}:{trace.lineno}"
        raise ModelLoadError(f"the loader failed unexpectedly, {what}") from error
    if device.note is not None:
        narrator.event("device", "WARN", note=device.note)
    narrator.event("model_load_complete", model=gguf.name or config.model.stem)
    recorder = None if recording is None else Recorder(recording, model=gguf.name)
    return Service(config, model, tokenizer, _identity(config, gguf, device, model), narrator, recorder)


def _must_be_as_before(path: Path, before: os.stat_result) -> None:
    """What was loaded is one file, not half of one and half of another. A file put in its place does not matter.

    Raises:
        ModelLoadError: the file was written to meanwhile.
    """
    with suppress(FileNotFoundError):
        now = path.stat()
        same_file = (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino)
        if same_file and (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            told = "the file was written to while it was loaded; start the worker when the file is complete"
            raise ModelLoadError(told, facts={"reason": "changed"})


def _recording(narrator: Narrator) -> Settings | None:
    """What ORCH_LOG_FILE and its siblings ask for.

    Raises:
        WorkerError: a variable that cannot be meant, or a file that cannot be written.
    """
    _must_not_block(os.environ.get("ORCH_LOG_FILE"))
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        raise WorkerError(str(error), code=Code.INTERNAL) from error
    if settings is not None:
        note = "token IDs and intermediate values of every job are written to ORCH_LOG_FILE"
        narrator.event("recording", file=str(settings.path), note=note)
    return settings


def _must_not_block(file: str | None) -> None:
    """A recording is written where jobs are served: a pipe that nobody reads would stop them.

    Raises:
        WorkerError: the path is a pipe or a socket.
    """
    with suppress(OSError, ValueError):  # it will be made, or what is wrong will be told when it is opened
        mode = Path(file or "").stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            raise WorkerError(f"ORCH_LOG_FILE {file!r} is a pipe or a socket; give a file", code=Code.INTERNAL)


def _identity(config: WorkerConfig, gguf: GgufFile, device: Device, model: Model) -> Identity:
    resident = device.resident
    return Identity(
        model=gguf.name or config.model.stem,
        quant_kind=gguf.file_type,
        device=config.device,
        device_name=device.name,
        memory_kind="vram" if resident else "host",
        memory_total=model.memory.total + device.available(),
        extra={"architecture": gguf.architecture, **_device_facts(device)},
    )


def _device_facts(device: Device) -> dict[str, object]:
    """What only a CUDA device has to say of itself: `sm` and `cuda_runtime_version` (M0-W-1320)."""
    if device.kind != "cuda":
        return {}
    from m0_worker.devices.cuda.device import CudaDevice, describe  # noqa: PLC0415 - a CPU worker has no CuPy

    facts: dict[str, object] = describe(device) if isinstance(device, CudaDevice) else {}
    return {name: value for name, value in facts.items() if name != "name"}


def _report_failure(config: WorkerConfig, narrator: Narrator, error: WorkerError) -> None:
    """The error event on stdout and one line on stderr with the same facts (M0-W-1020, M0-W-1111)."""
    facts = dict(error.facts)
    narrator.event(
        "error", "ERROR", code=error.code.name, message=error.message, device=config.device, phase="startup", **facts
    )
    told = "".join(f", {name} {value}" for name, value in facts.items())
    message = " ".join(error.message.split())
    sys.stderr.write(
        f"m0-worker: {error.code.name}: {message} "
        f"(model {str(config.model)!r}, device {config.device}, gpu-device {config.gpu_device}{told})\n"
    )
    sys.stderr.flush()


def _run_loop(work: Coroutine[Any, Any, None]) -> None:
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    with asyncio.Runner() as runner:
        return runner.run(work)


async def _serve(
    config: WorkerConfig, service: Service, device: Device, listener: socket.socket, signals: Signals
) -> None:
    """Listen, work, drain.

    Raises:
        WorkerError: the port was taken by somebody who listened first.
    """
    from m0_worker.http.app import Application  # noqa: PLC0415 - a refused model must not wait for the HTTP libraries
    from m0_worker.http.callers import Callers  # noqa: PLC0415 - the same
    from m0_worker.http.server import Server  # noqa: PLC0415 - the same

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    narrator = service.narrator

    def on_listening() -> None:
        vram = service.health()["vram_bytes_used"]
        narrator.event("ready", vram_bytes=vram, uri=uri(config.host, config.port), device=config.device)
        tasks.add(asyncio.create_task(_watch_residency(config, service, device)))
        if config.callback_url:
            tasks.add(asyncio.create_task(report_ready(config, int(str(vram)), narrator)))

    server = Server(Application(service, Callers(config.host, config.allowed_hosts)), on_listening)
    recordings_until = float("inf")

    def shut_down(reason: str) -> None:
        nonlocal recordings_until
        running = service.turnstile.running
        if service.turnstile.draining:  # asked twice: do not wait
            if running is not None:
                running.stop(Abort.SHUTDOWN)
            return
        narrator.event("shutdown", phase="draining", reason=reason)
        recordings_until = loop.time() + _RECORDINGS_UNTIL_S
        watchdog.begin()
        service.turnstile.drain(server.stop)
        if running is not None:
            loop.call_later(config.drain_s, running.stop, Abort.SHUTDOWN)

    service.on_shutdown = shut_down
    watchdog = Watchdog(_GIVE_UP_S, lambda: _give_up(service))

    def on_signal(name: str) -> None:
        watchdog.begin()  # here, for the loop may be what hangs
        loop.call_soon_threadsafe(shut_down, name)

    signals.react = on_signal
    # What was loaded lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.enable()  # off since the start: nothing that was loaded is garbage
    try:
        await server.serve([listener])
    except OSError as error:
        message = f"port {config.port} cannot be listened on: {error.strerror}; choose a free port"
        raise WorkerError(message, code=Code.INTERNAL) from error
    finally:
        for task in tasks:
            task.cancel()
        try:
            async with asyncio.timeout_at(min(recordings_until, loop.time() + _RECORDINGS_UNTIL_S)):
                await service.recordings_written()
        except TimeoutError:
            narrator.event("recording_failed", "ERROR", message="the recording was not written before the end")
        signals.react = lambda _: None  # it is ending


def _give_up(service: Service) -> None:
    """End the process, whatever it is waiting for: a step, a disk, a name that is looked up."""
    stuck = service.turnstile.running is not None
    told = "a job did not end" if stuck else "something did not end"
    service.narrator.event("shutdown", "ERROR", phase="forced", reason=told)
    service.narrator.close()
    os._exit(1 if stuck else 0)


async def _watch_residency(config: WorkerConfig, service: Service, device: Device) -> None:
    """Check every `residency_interval_s` that the weights are where they were put (M0-W-1012)."""
    while True:
        await asyncio.sleep(config.residency_interval_s)
        check = getattr(device, "check_residency", None)  # a CPU has nothing to ask
        try:
            resident = device.resident if check is None else check()
        except DeviceError:
            resident = False
        service.check_residency(resident=resident)

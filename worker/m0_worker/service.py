"""The worker between its engine and its HTTP room: state, health, and the life of a job.

Knows the model only through the protocols of `m0_worker.generation`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_worker.errors import Code, OutOfMemory, WorkerError
from m0_worker.generation import generate
from m0_worker.http.limits import Limits
from m0_worker.jobs import Abort, Aborted, Job, Turnstile, drive
from m0_worker.metrics import Metrics
from m0_worker.narration import fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from m0_worker.checkpoints import JobRecorder, Recorder
    from m0_worker.config import WorkerConfig
    from m0_worker.generation import Ending, Model, Tokenizer
    from m0_worker.narration import Narrator


@dataclass(frozen=True, slots=True)
class Identity:
    """What /health says of the model and the device; it never changes (M0-W-1002).

    Attributes:
        model: `general.name` of the file; also in every `started` event.
        quant_kind: the stored format, from `general.file_type`.
        device: "cuda" or "cpu".
        device_name: the product's name.
        memory_kind: "vram" or "host": where `vram_bytes_used` lies.
        memory_total: bytes of that memory the worker may use, or None.
        extra: further fields; a CUDA device adds `sm` and `cuda_runtime_version`.
    """

    model: str
    quant_kind: str
    device: str
    device_name: str
    memory_kind: str
    memory_total: int | None
    extra: dict[str, object]


class Outcome:
    """What became of a job, collected while it runs."""

    __slots__ = ("begun_at", "texts")

    def __init__(self) -> None:
        self.begun_at: float | None = None
        self.texts: list[str] = []

    def duration_ms(self) -> float:
        """Milliseconds since the job's turn came; 0 if it never did."""
        return 0.0 if self.begun_at is None else (time.perf_counter() - self.begun_at) * 1e3


class Service:
    """One worker."""

    def __init__(
        self,
        config: WorkerConfig,
        model: Model,
        tokenizer: Tokenizer,
        identity: Identity,
        narrator: Narrator,
        recorder: Recorder | None = None,
    ) -> None:
        self._recorder = recorder
        self._unwritten: deque[JobRecorder] = deque()
        self._writer: asyncio.Task[None] | None = None
        self.identity = identity
        self.narrator = narrator
        self.turnstile = Turnstile(config.queue_depth)
        self.resident = identity.memory_kind == "vram"
        self.fault: str | None = None
        self.on_shutdown: Callable[[str], None] = lambda _: None
        self._config = config
        self._model = model
        self._tokenizer = tokenizer
        self._ready_at = time.monotonic()
        self.metrics = Metrics(identity.quant_kind, lambda: model.memory.total, self.uptime)
        self.limits = Limits(
            vocab_size=tokenizer.vocab_size,
            logit_rows=model.n_vocab,
            max_tokens_in=min(model.n_ctx, config.max_tokens_in or model.n_ctx),
            max_tokens_out=config.max_tokens_out,
            encode=self._encode,
        )
        self._fixed_health: dict[str, object] = {
            "model": identity.model,
            "worker_id": config.worker_id,
            "vocab_size": tokenizer.vocab_size,
            "context_length": model.n_ctx,
            "quant_kind": identity.quant_kind,
            "tokenizer_kind": tokenizer.kind,
            "device": identity.device,
            "device_name": identity.device_name,
            "gpu_device": config.gpu_device,
            "memory_kind": identity.memory_kind,
            "vram_bytes_total": identity.memory_total,
            "protocol": "sse",
            "capabilities": ["text-gen"],
            **identity.extra,
        }

    def uptime(self) -> float:
        """Seconds since the model was ready."""
        return time.monotonic() - self._ready_at

    def health(self) -> dict[str, object]:
        """The body of GET /health, from what is already known: no device call (M0-W-1320, M0-W-1604)."""
        turnstile = self.turnstile
        return {
            "status": "healthy" if self.fault is None else "unhealthy",
            **({} if self.fault is None else {"fault": self.fault}),
            "state": "draining" if turnstile.draining else "idle" if turnstile.running is None else "busy",
            "uptime_seconds": int(self.uptime()),
            "resident": self.resident,
            "vram_bytes_used": self._model.memory.total,
            "waiting_jobs": turnstile.waiting,
            **self._fixed_health,
        }

    def cancel(self, job_id: str) -> bool:
        """End a running or waiting job; False when there is none (M0-W-1330: no error, cancel is idempotent)."""
        job = self.turnstile.find(job_id)
        if job is not None:
            job.stop(Abort.CANCELLED)
        return job is not None

    async def run(
        self,
        job: Job,
        outcome: Outcome,
        begin: Callable[[], Awaitable[None]],
        write: Callable[[list[str]], Awaitable[None]],
    ) -> Ending:
        """Wait for the job's turn, call `begin`, then generate, calling `write` with the tokens' texts.

        Raises:
            Aborted: ended from outside.
            WorkerError: failed; the worker lives on.
        """

        async def work() -> Ending:
            if job.turn is not None:
                await job.turn
            job.start_clock(self._config.inference_timeout_s)
            outcome.begun_at = time.perf_counter()
            await begin()
            limit = self._config.kv_cache_bytes
            return await drive(generate(self._model, self._tokenizer, job.request, kv_limit=limit, tap=tap), write)

        tap = None if self._recorder is None else self._recorder.job(job.request.job_id)
        try:
            ending = await job.limited(work)
        except (Aborted, asyncio.CancelledError):
            raise
        except MemoryError as error:
            self.fault = "VRAM_OOM: out of host memory"
            raise WorkerError("out of memory", code=Code.VRAM_OOM) from error
        except OutOfMemory as error:
            self.fault = f"{error.code.name}: {error.message}"
            raise
        except WorkerError as error:
            if error.code is Code.CUDA_ERROR:
                self.fault = f"{error.code.name}: {error.message}"
            raise
        except ArithmeticError as error:
            raise WorkerError(str(error), code=Code.INTERNAL) from error
        finally:
            if tap is not None:  # written beside the terminal event, which must not wait for a file
                self._unwritten.append(tap)
                if self._writer is None or self._writer.done():
                    self._writer = asyncio.get_running_loop().create_task(self._write_recordings())
        self.fault = None  # a job that succeeds is the proof of health (reading E-HEALTH5)
        return ending

    async def _write_recordings(self) -> None:
        """Write what the finished jobs left, one after the other, a line at a time."""
        while self._unwritten:
            try:
                for _ in self._unwritten.popleft().write():
                    await asyncio.sleep(0)
            except OSError as error:
                message = f"the recording cannot be written: {error.strerror}"
                self.narrator.event("recording_failed", "ERROR", message=message)

    async def recordings_written(self) -> None:
        """Wait for the recordings of jobs that are over."""
        if self._writer is not None:
            await self._writer

    def narrate_start(self, job: Job, remaining_s: float | None) -> None:
        """The execute_start event."""
        request = job.request
        self.narrator.event(
            "execute_start",
            job_id=request.job_id,
            correlation_id=job.correlation_id,
            **fingerprint("prompt", request.prompt),
            **({} if remaining_s is None else {"deadline_remaining_s": round(remaining_s, 3)}),
        )

    def narrate_end(self, job: Job, outcome: Outcome, result: str, detail: str) -> None:
        """The execute_end event and the counters; `result` is one of `metrics.OUTCOMES`."""
        self.metrics.finished(result, len(outcome.texts), outcome.duration_ms())
        self.narrator.event(
            "execute_end",
            job_id=job.request.job_id,
            correlation_id=job.correlation_id,
            outcome=result,
            reason=detail,
            **fingerprint("text", "".join(outcome.texts)),
        )

    def narrate_error(self, error: WorkerError, job: Job) -> None:
        """The error event of a job."""
        self.narrator.event(
            "error",
            "ERROR",
            job_id=job.request.job_id,
            correlation_id=job.correlation_id,
            code=error.code.name,
            message=error.message,
            **error.facts,
        )

    def check_residency(self, *, resident: bool) -> None:
        """Take note of a residency check (M0-W-1012): weights that left device memory make the worker unhealthy."""
        expected = self.identity.memory_kind == "vram"
        lost = expected and not resident
        self.resident = resident
        if lost:
            self.fault = "weights are not resident in device memory"
        self.narrator.event(
            "residency_check",
            "CRITICAL" if lost else "INFO",
            resident=resident,
            device=self.identity.device,
            **({} if expected else {"reason": "the CPU device keeps its weights in host memory"}),
        )

    def _encode(self, text: str, whole: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special=whole, parse_special=True)

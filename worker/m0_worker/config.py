"""What one worker process was told to do: the arguments of M0-W-1100 and M0-W-1101, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_TOKENS_LIMIT = 2048  # M0-W-1300: max_tokens is 1 to 2048
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A worker's settings for its whole life; nothing changes them (M0-W-1001, M0-W-1002).

    Attributes:
        worker_id: UUID in canonical form.
        model: absolute path of the GGUF file; also the `model_ref` of every narrated event.
        device: "cuda" or "cpu".
        gpu_device: index of the device; the CPU device has index 0 only.
        callback_url: where to report readiness, or None.
        max_tokens_in: longest prompt in tokens; None: the context length.
        max_tokens_out: largest max_tokens a request may ask for.
        inference_timeout_s: a job running longer ends with INFERENCE_TIMEOUT.
        kv_cache_bytes: largest KV cache of one job; None: what the device has free.
        kv_cache_type: element type of the KV cache, "f16" as M0 asks or "f32" for numerical comparison.
        memory_limit_bytes: the device memory this worker may use in all; None: all that is free.
        queue_depth: jobs that may wait behind the running one; the next gets HTTP 503.
        residency_interval_s: seconds between two residency checks (M0-W-1012).
        allowed_hosts: names beside its own under which the worker may be called.
        drain_s: how long a running job may go on after SIGTERM or /shutdown; what is left of 30 s is for its end.
    """

    worker_id: str
    model: Path
    device: str
    gpu_device: int
    host: str
    port: int
    callback_url: str | None = None
    max_tokens_in: int | None = None
    max_tokens_out: int = MAX_TOKENS_LIMIT
    inference_timeout_s: float = 300.0
    kv_cache_bytes: int | None = None
    kv_cache_type: str = "f16"
    memory_limit_bytes: int | None = None
    queue_depth: int = 8
    residency_interval_s: float = 60.0
    allowed_hosts: tuple[str, ...] = ()
    drain_s: float = 25.0

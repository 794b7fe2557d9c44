"""What the worker says, as pydantic models: the events of a stream, /health, and the small answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from m0_worker.http.errors import StableCode  # noqa: TC001 - pydantic reads it
from m0_worker.http.limits import MAX_JOB_ID


class _Said(BaseModel):
    """Something the worker says: nothing but these fields, and none of another type."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Started(_Said):
    """The first event of every stream (M0-W-1311)."""

    job_id: str
    model: str = Field(description="Name of the model.")
    started_at: str = Field(description="UTC, ISO 8601 with milliseconds.", json_schema_extra={"format": "date-time"})
    seed: int = Field(ge=0, lt=2**64, description="The seed in use, given or drawn.")


class Token(_Said):
    """One generated token."""

    t: str = Field(description="Its text; empty while a character of several tokens is incomplete.")
    i: int = Field(ge=0, description="Its number, from 0.")


class End(_Said):
    """The last event of a generation that ended by itself."""

    tokens_out: int = Field(ge=0, description="The number of `token` events.")
    decode_time_ms: int = Field(ge=0, description="Milliseconds since the job's turn came.")
    stop_reason: Literal["MAX_TOKENS", "EOS", "STOP_SEQUENCE", "CONTEXT_LENGTH"]
    stop_sequence_matched: str | None = Field(None, description="The stop string, where one ended the text.")


class Failed(_Said):
    """The last event of a job that failed or was ended from outside."""

    code: StableCode
    message: str
    retriable: bool = Field(description="Whether the same request may succeed later.")


EVENTS: dict[str, type[_Said]] = {"started": Started, "token": Token, "end": End, "error": Failed}


class Health(BaseModel):
    """The worker's state, its model and its device (M0-W-1320)."""

    model_config = ConfigDict(strict=True, extra="forbid")

    status: Literal["healthy", "unhealthy"] = Field(description="`unhealthy` from a failure until a job succeeds.")
    fault: str | None = Field(None, description="What made it unhealthy.")
    state: Literal["idle", "busy", "draining"]
    uptime_seconds: int = Field(ge=0)
    resident: bool = Field(description="Whether the weights lie in device memory.")
    vram_bytes_used: int = Field(ge=0, description="Bytes in use, in the memory that `memory_kind` names.")
    waiting_jobs: int = Field(ge=0)
    model: str
    worker_id: str = Field(json_schema_extra={"format": "uuid"})
    vocab_size: int = Field(ge=1)
    context_length: int = Field(ge=1)
    quant_kind: str
    tokenizer_kind: str
    device: Literal["cuda", "cpu"]
    device_name: str
    gpu_device: int = Field(ge=0)
    memory_kind: Literal["vram", "host"]
    vram_bytes_total: int | None
    protocol: Literal["sse"]
    capabilities: list[str]
    architecture: str
    sm: int | None = Field(None, description="Compute capability of a CUDA device, 90 for 9.0.")
    cuda_runtime_version: str | None = None
    multiprocessors: int | None = None


class CancelRequest(BaseModel):
    """Which job to end."""

    model_config = ConfigDict(strict=True, extra="ignore")

    job_id: str = Field(min_length=1, max_length=MAX_JOB_ID)


class Cancelled(_Said):
    """A cancel is always accepted: it is idempotent (M0-W-1330)."""

    job_id: str
    was_active: bool = Field(description="Whether the job was running or waiting.")


class Draining(_Said):
    """The worker lets nobody in any more and ends when the running job is over."""

    status: Literal["draining"]

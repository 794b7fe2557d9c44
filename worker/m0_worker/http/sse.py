"""The bytes of the event stream: event types, order and payloads of M0-W-1310 to M0-W-1312 and M0-W-1510.

The `event:` line names the type (reading E-FRAME). JSON escapes every line end: a payload is always one `data:` line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m0_worker.errors import Code

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event(name: str, payload: dict[str, object]) -> bytes:
    """One event."""
    return f"event: {name}\ndata: {_encode(payload)}\n\n".encode()


def started(job_id: str, model: str, started_at: str, seed: int) -> bytes:
    """The first event of every stream; `seed` is the one in use, given or generated (reading E-SEED1)."""
    return event("started", {"job_id": job_id, "model": model, "started_at": started_at, "seed": seed})


def token(text: str, index: int) -> bytes:
    """One generated token: its text and its number from 0. Written by hand, for it is written for every token."""
    return f'event: token\ndata: {{"t":{_encode(text)},"i":{index}}}\n\n'.encode()


def end(tokens_out: int, decode_time_ms: int, stop_reason: str, stop_sequence_matched: str | None) -> bytes:
    """The terminal event of a generation that ended by itself."""
    payload: dict[str, object] = {
        "tokens_out": tokens_out,
        "decode_time_ms": decode_time_ms,
        "stop_reason": stop_reason,
    }
    if stop_sequence_matched is not None:
        payload["stop_sequence_matched"] = stop_sequence_matched
    return event("end", payload)


def error(code: Code, message: str, *, retriable: bool) -> bytes:
    """The terminal event of a job that failed or was ended from outside."""
    return event("error", {"code": code.name, "message": message, "retriable": retriable})

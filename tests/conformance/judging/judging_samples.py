"""Recordings made by hand for the tests of judges and verdicts."""

from __future__ import annotations

import json
from typing import Any

from m0_conformance.recording.transcript import Chunk, Exchange, Recording

STARTED_AT = 1_700_000_000.0
STARTED = ("started", {"job_id": "job-1", "model": "fake", "started_at": "2023-11-14T22:13:20Z"})
END = ("end", {"tokens_out": 3, "decode_time_ms": 5})
TOKENS = [("token", {"t": f" w{i}", "i": i}) for i in range(3)]
GOOD: list[tuple[str, dict[str, Any]]] = [STARTED, *TOKENS, END]
HEALTH = {
    "status": "healthy",
    "model": "fake",
    "uptime_seconds": 3.0,
    "resident": False,
    "vram_bytes_used": 0,
    "vocab_size": 512,
    "context_length": 4096,
    "quant_kind": "Q4_0",
    "tokenizer_kind": "gguf-bpe",
}


def sse(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events)


def execute(body: bytes, *, number: int = 1, gap: float = 0.0, **changes: Any) -> Exchange:
    """A stream, one chunk a blank line; `gap` seconds between chunks."""
    pieces = [piece + b"\n\n" for piece in body.split(b"\n\n") if piece] if body.endswith(b"\n\n") else [body]
    chunks = [Chunk(0.01 + gap * index, piece) for index, piece in enumerate(pieces)]
    values: dict[str, Any] = {
        "id": f"x{number}",
        "label": "job",
        "method": "POST",
        "path": "/execute",
        "request_headers": [("Content-Type", "application/json")],
        "request_body": b'{"job_id": "job-1", "prompt": "hello"}',
        "host": "127.0.0.1:8000",
        "started_at": STARTED_AT,
        "status": 200,
        "head_at": 0.005,
        "closed_at": chunks[-1].at + 0.001 if chunks else 0.02,
        "headers": [("Content-Type", "text/event-stream")],
        "framing": "close",
        "chunks": chunks,
        "end": "eof",
    }
    return Exchange(**{**values, **changes})


def health(number: int = 1, at: float = 0.0, **changes: Any) -> Exchange:
    """GET /health; a change to None removes the key."""
    body = {key: value for key, value in {**HEALTH, **changes}.items() if value != "absent"}
    return Exchange(
        id=f"h{number}",
        label="health",
        method="GET",
        path="/health",
        host="127.0.0.1:8000",
        t0=at,
        status=200,
        head_at=0.001,
        closed_at=0.001,
        headers=[("Content-Type", "application/json")],
        chunks=[Chunk(0.001, json.dumps(body).encode())],
        end="eof",
    )


def recording(*exchanges: Exchange, clauses: tuple[str, ...] = (), check: str = "test_x.py::test_x") -> Recording:
    return Recording(check, clauses, list(exchanges), settings={"timing_scale": 1.0, "floor_us": 100.0})

"""Small recordings for the judges of the HTTP wire: streams, answers, and what a check notes beside them."""

from __future__ import annotations

import json
from typing import Any

from m0_conformance.judging.finding import Status
from m0_conformance.judging.judge import evaluate, load_all
from m0_conformance.recording.transcript import Chunk, Exchange, Recording

load_all()
HOST = "127.0.0.1:8000"
SETTINGS: dict[str, Any] = {"target": "command", "timing_scale": 1.0, "disputes": "strict", "probe": "script"}
SSE = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json")]


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def job(
    label: str, *pieces: str, t0: float = 0.0, step: float = 0.01, end: bytes | None = b"", **body: Any
) -> Exchange:
    """A job whose events arrive every `step` seconds from `t0` on; `end` replaces the end event, None leaves it out."""
    request = {"job_id": label, "prompt": "words", **body}
    events = [event("started", job_id=request["job_id"], model="m", started_at="2026-01-01T00:00:00Z")]
    events += [event("token", t=piece, i=number) for number, piece in enumerate(pieces)]
    if end is not None:
        events.append(end or event("end", tokens_out=len(pieces), decode_time_ms=1))
    chunks = [Chunk(round(step * (number + 1), 6), data) for number, data in enumerate(events)]
    return Exchange(
        "", label, "POST", "/execute", request_headers=[("Content-Type", "application/json")],
        request_body=json.dumps(request).encode(), host=HOST, t0=t0, sent_at=0.0, head_at=step, status=200, headers=SSE,
        framing="chunked", chunks=chunks, end="eof" if end is not None else "client-closed", closed_at=chunks[-1].at,
    )  # fmt: skip


def answer(
    label: str, status: int | None, body: Any = None, *, method: str = "POST", path: str = "/execute", t0: float = 0.0,
    took: float = 0.01, headers: list[tuple[str, str]] | None = None, request: Any = None, end: Any = "eof",
) -> Exchange:  # fmt: skip
    """A plain answer; bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = json.dumps({"job_id": "j"} if request is None else request).encode() if method == "POST" else b""
    return Exchange(
        "", label, method, path, request_body=sent, host=HOST, t0=t0, sent_at=0.0, status=status,
        head_at=took if status is not None else None, headers=JSON if headers is None else headers, framing="length",
        chunks=[Chunk(took, data)] if status is not None else [], end=end, closed_at=took,
    )  # fmt: skip


def refusal(label: str, field: str, status: int = 400, **more: Any) -> Exchange:
    """A proper 400."""
    body = {"code": "INVALID_REQUEST", "message": f"{field} is wrong", "retriable": False, **more}
    return answer(label, status, body)


def red(clause: str, *exchanges: Exchange, facts: dict[str, Any] | None = None) -> set[Status]:
    """Statuses that the judges of one clause give to these exchanges, INFO aside."""
    for number, exchange in enumerate(exchanges, 1):
        exchange.id = f"x{number}"
    recording = Recording("t", (clause,), list(exchanges), facts=facts or {}, settings=dict(SETTINGS))
    found = [finding for finding in evaluate(Recording.decode(recording.encode())) if finding.clause == clause]
    assert not [finding for finding in found if finding.status is Status.ERROR], found
    return {finding.status for finding in found} - {Status.INFO}

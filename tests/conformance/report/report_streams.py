"""Recordings such as a run leaves them: steady, replayed, stalled, broken and hostile streams, bad processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m0_conformance.recording.transcript import Chunk, Exchange, Launch, LogLine, Recording, seconds

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

HOSTILE = (
    "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>&quot;\x1b[31m\x00\u202egnp.exe\u2066\ud800\"'`"
)
"""Markup, an escape sequence, NUL, bidirectional overrides, a lone surrogate, quotes of every kind."""
SECRET = "canary-5f1d0c"

WORDS = [
    "the",
    "worker",
    "holds",
    "one",
    "model",
    "in",
    "memory",
    "and",
    "streams",
    "every",
    "token",
    "as",
    "soon",
    "as",
    "it",
    "is",
    "known",
]


def event(kind: str, payload: dict[str, object]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(payload, ensure_ascii=True, separators=(',', ':'))}\n\n".encode()


def execute(
    pieces: list[str],
    times: list[float],
    *,
    exchange: str = "x1",
    label: str = "first",
    t0: float = 0.0,
    last: bytes = b"",
) -> Exchange:
    """A stream with one event a chunk; `times` holds the arrivals of started, each token and the terminal event."""
    blocks = [event("started", {"job_id": "j-1", "model": "script", "started_at": "2026-11-20T10:00:00Z", "seed": 7})]
    blocks += [event("token", {"t": piece, "i": index}) for index, piece in enumerate(pieces)]
    blocks.append(last or event("end", {"tokens_out": len(pieces), "decode_time_ms": 400, "stop_reason": "MAX_TOKENS"}))
    assert len(blocks) == len(times)
    return Exchange(
        id=exchange,
        label=label,
        method="POST",
        path="/execute",
        request_headers=[
            ("host", "127.0.0.1:41233"),
            ("content-type", "application/json"),
            ("authorization", f"Bearer {SECRET}"),
        ],
        request_body=json.dumps(
            {"job_id": "j-1", "prompt": "tell me", "max_tokens": len(pieces), "temperature": 0}
        ).encode(),
        host="127.0.0.1:41233",
        started_at=1795168800.0 + t0,
        t0=seconds(t0),
        sent_at=0.0004,
        head_at=seconds(times[0] - 0.0005),
        closed_at=seconds(times[-1] + 0.001),
        status=200,
        http_version="1.1",
        reason="OK",
        headers=[("content-type", "text/event-stream; charset=utf-8"), ("Transfer-Encoding", "chunked")],
        head=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
        framing="chunked",
        chunks=[Chunk(seconds(at), block) for at, block in zip(times, blocks, strict=True)],
        end="eof",
    )


def answer(
    status: int, body: object, *, exchange: str, label: str, path: str, t0: float = 0.0, method: str = "GET"
) -> Exchange:
    """A plain JSON answer after 2 ms."""
    data = json.dumps(body).encode()
    return Exchange(
        id=exchange,
        label=label,
        method=method,
        path=path,
        request_headers=[("host", "127.0.0.1:41233")],
        request_body=b'{"job_id":"j-1"}' if method == "POST" else b"",
        host="127.0.0.1:41233",
        started_at=1795168800.0,
        t0=seconds(t0),
        sent_at=0.0002,
        head_at=0.0019,
        closed_at=0.0021,
        status=status,
        http_version="1.1",
        reason={200: "OK", 202: "Accepted", 400: "Bad Request", 500: "Internal Server Error"}.get(status, ""),
        headers=[("content-type", "application/json")],
        head=b"",
        framing="length",
        chunks=[Chunk(0.002, data)],
        end="eof",
    )


def steady(count: int, step: float, rng: random.Random, start: float = 0.012) -> list[float]:
    """Arrival times of started, `count` tokens and the terminal event, about `step` seconds apart."""
    times = [start]
    for _ in range(count + 1):
        times.append(times[-1] + step * rng.uniform(0.8, 1.2))
    return times


def words(count: int) -> list[str]:
    return [" " + WORDS[index % len(WORDS)] for index in range(count)]


def recording(check: str, parts: Iterable[Exchange | Launch], clauses: Iterable[str] = ()) -> Recording:
    listed = list(parts)
    return Recording(
        check=check,
        clauses=tuple(clauses),
        exchanges=[part for part in listed if isinstance(part, Exchange)],
        launches=[part for part in listed if isinstance(part, Launch)],
    )


def process(
    lines: list[tuple[float, str]],
    *,
    label: str = "worker",
    code: int | None = None,
    exited: float | None = None,
    signals: list[tuple[str, float]] | None = None,
    ready: float | None = 0.61,
) -> Launch:
    return Launch(
        label=label,
        argv=["python", "-m", "m0_worker", "--model", "/home/ann/models/script.gguf", "--port", "41233"],
        model="script",
        started=1795168799.0,
        t0=-0.7,
        port=41233,
        lines=[LogLine("stderr" if "error" in text else "stdout", at, text) for at, text in lines],
        ready_at=ready,
        exit_code=code,
        exited_at=exited,
        signals=signals or [],
    )


START_UP: list[tuple[float, str]] = [
    (0.21, '{"event":"startup","worker_id":"7c9e6679-7425-40de-944b-e07fc1f90ae7","gpu_device":0}'),
    (0.22, '{"event":"model_load_start","model_ref":"/home/ann/models/script.gguf"}'),
    *[(0.22 + 0.08 * n, f'{{"event":"model_load_progress","percent":{n * 25}}}') for n in range(5)],
    (0.57, '{"event":"model_load_complete"}'),
    (0.60, '{"event":"ready"}'),
]

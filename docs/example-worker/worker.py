"""A whole M0 worker in Python's standard library that knows no model: it says the words of the prompt again and again.

python3 worker.py --worker-id ID --model FILE --gpu-device 0 --port 8080
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import queue
import random
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEGIN = time.monotonic()
VOCABULARY = 512
LIMITS = {  # field: type, lowest, highest, default
    "max_tokens": (int, 1, 2048, 2048),
    "temperature": ((int, float), 0.0, 2.0, 1.0),
    "seed": (int, 0, 2**64 - 1, None),
    "top_k": (int, 0, VOCABULARY, 0),
    "top_p": ((int, float), 0.0, 1.0, 1.0),
    "min_p": ((int, float), 0.0, 1.0, 0.0),
    "repetition_penalty": ((int, float), 0.0, 2.0, 1.0),
}


class Job:
    """What /cancel can find."""

    def __init__(self, request: dict) -> None:
        self.request = request
        self.cancelled = threading.Event()


TURN = threading.Lock()
JOBS: dict[str, Job] = {}
CANCELLED: set[str] = set()


def log(event: str, **facts: object) -> None:
    """One line of JSON."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"timestamp": now, "level": "INFO", "worker_id": OPTIONS.worker_id, "event": event, **facts}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def text(value: object) -> bool:
    """Whether it is a string that can be written as UTF-8, and not empty."""
    return isinstance(value, str) and bool(value) and not re.search("[\ud800-\udfff]", value)


def number(word: str) -> None:
    """NaN and Infinity are no JSON. Raises ValueError."""
    raise ValueError(word)


def problems(request: object) -> list[dict]:
    """Everything that is wrong with a job."""
    if not isinstance(request, dict):
        return [{"field": "body", "constraint": "object", "message": "give a JSON object"}]
    found = []

    def wrong(field: str, constraint: str, message: str) -> None:
        entry = {"field": field, "constraint": constraint, "message": message}
        if field in request and request[field] not in (math.inf, -math.inf):  # 1e999 is read as infinity
            entry["value"] = request[field]
        found.append(entry)

    for field in ("job_id", "prompt"):
        if field not in request:
            wrong(field, "required", f"{field} is missing")
        elif not text(request[field]):
            wrong(field, "type", f"{field} is a string of at least one character")
    if isinstance(request.get("prompt"), str) and len(request["prompt"]) > 32768:
        wrong("prompt", "length", "a prompt has at most 32768 characters")
    for field, (kind, low, high, _) in LIMITS.items():
        value = request.get(field)
        if field not in request:
            continue
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            wrong(field, "range", f"{field} is a number from {low} to {high}")
    stop = request.get("stop", [])
    if not isinstance(stop, list) or len(stop) > 4 or not all(text(s) and len(s) <= 32 for s in stop):
        wrong("stop", "length", "stop is a list of at most 4 texts of 1 to 32 characters")
    return found


def tokens(request: dict) -> Iterator[str]:
    """The answer, token by token."""
    seed = request.get("seed")
    dice = random.Random(uuid.uuid4().int if seed is None else seed)
    words = re.findall(r"\s*\S+", request["prompt"]) or [request["prompt"]]
    greedy = request.get("temperature", 1.0) == 0 or request.get("top_k") == 1
    for index in range(request.get("max_tokens", 2048)):
        yield words[index % len(words)] if greedy else dice.choice(words)


class Handler(BaseHTTPRequestHandler):
    """The five routes."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """The worker has a log of its own."""

    def answer(self, status: int, body: dict) -> None:
        """A JSON answer."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Correlation-ID", self.headers.get("X-Correlation-ID") or str(uuid.uuid4()))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, found: list[dict]) -> None:
        """A request that is at fault."""
        message = "; ".join(entry["message"] for entry in found)
        self.answer(400, {"code": "INVALID_REQUEST", "message": message, "retriable": False, "details": found})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses: bad syntax, and methods that this class has not."""
        self.close_connection = True
        if not hasattr(self, "headers"):
            self.headers = {}
        details = [{"field": "request", "constraint": "syntax", "message": message or explain or "bad request"}]
        body = {"code": "INVALID_REQUEST", "message": details[0]["message"], "retriable": False, "details": details}
        self.request_version = "HTTP/1.1"
        self.answer(405 if code == 501 else max(400, min(code, 499)), body)

    def do_GET(self) -> None:
        """GET /health."""
        if self.path != "/health":
            return self.answer(404, {"code": "NOT_FOUND", "message": "no such path", "retriable": False})
        facts = {"status": "healthy", "model": "parrot", "resident": False, "vram_bytes_used": 0, "quant_kind": "F32"}
        facts |= {"tokenizer_kind": "gguf-bpe", "vocab_size": VOCABULARY, "context_length": 65536}
        facts |= {"uptime_seconds": round(time.monotonic() - BEGIN, 3)}
        return self.answer(200, facts)

    def do_POST(self) -> None:
        """POST /execute and /cancel."""
        try:
            request = json.loads(self.body(), parse_constant=number)
        except (ValueError, RecursionError):
            request = None
        if self.path == "/execute":
            return self.execute(request)
        if self.path == "/cancel":
            name = request.get("job_id") if isinstance(request, dict) else None
            if not text(name):
                return self.refuse([{"field": "job_id", "constraint": "type", "message": "give the job_id, a text"}])
            if name in CANCELLED:
                return self.answer(202, {})
            job = JOBS.get(name)
            if job is None:
                return self.answer(404, {"code": "JOB_NOT_FOUND", "message": "no such job", "retriable": False})
            job.cancelled.set()
            CANCELLED.add(name)
            return self.answer(202, {})
        return self.answer(404, {"code": "NOT_FOUND", "message": "no such path", "retriable": False})

    def body(self) -> bytes:
        """The request's body; http.server itself does not read a chunked one."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def execute(self, request: object) -> None:
        """Stream one job."""
        found = problems(request)
        if found:
            return self.refuse(found)
        job = JOBS[request["job_id"]] = Job(request)
        try:
            with TURN:  # one job at a time
                self.stream(job)
        except OSError:
            pass  # the client has gone
        finally:
            JOBS.pop(request["job_id"], None)
        return None

    def event(self, name: str, **data: object) -> None:
        """One event."""
        chunk = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def stream(self, job: Job) -> None:
        """started, token …, end or error."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Correlation-ID", self.headers.get("X-Correlation-ID") or str(uuid.uuid4()))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        begun = time.monotonic()
        self.event("started", job_id=job.request["job_id"], model="parrot", started_at=now)
        index, reason, text = 0, "MAX_TOKENS", ""
        for token in tokens(job.request):
            if job.cancelled.is_set():
                self.event("error", code="CANCELLED", message="the job was cancelled", retriable=False)
                break
            text += token
            if any(stop in text for stop in job.request.get("stop", [])):
                reason = "STOP_SEQUENCE"
                break
            self.event("token", t=token, i=index)
            index += 1
        if not job.cancelled.is_set():
            milliseconds = round(1000 * (time.monotonic() - begun))
            self.event("end", tokens_out=index, decode_time_ms=milliseconds, stop_reason=reason)
        self.wfile.write(b"0\r\n\r\n")


def main() -> None:
    """Serve until a signal comes."""
    server = ThreadingHTTPServer(("127.0.0.1", OPTIONS.port), Handler)
    server.daemon_threads = True
    ends: queue.SimpleQueue = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ends.put(None))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log("ready", uri=f"http://127.0.0.1:{OPTIONS.port}", vram_bytes=0)
    ends.get()
    log("shutdown")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker-id", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--gpu-device", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--callback-url")  # taken and never called: a deviation that the profile m0-process shows
    OPTIONS = parser.parse_args()
    main()

"""Workers that mean harm, by name: `python hostile_worker.py KIND` with M0's arguments after it.

`WORKERS` says what each does in three places: before it listens, for GET, and for POST /execute.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
HEALTH = b'{"status":"healthy","worker_id":"w","model":"m","resident":true,"uptime_s":1,"vram_bytes":1}'
JSON = OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(HEALTH) + HEALTH
SSE = OK + b"Content-Type: text/event-stream\r\n\r\n"
STARTED = b'event: started\ndata: {"job_id":"j","model":"m","started_at":"2026-01-01T00:00:00Z","seed":1}\n\n'
TOKEN = b'event: token\ndata: {"t":"a","i":0}\n\n'
END = b'event: end\ndata: {"tokens_out":1,"decode_time_ms":1}\n\n'

WORKERS: dict[str, dict[str, object]] = {
    "exit-at-once": {"start": "exit"},
    "crash-at-once": {"start": "abort"},
    "never-listen": {"start": "sleep"},
    "deaf": {"start": "deaf"},
    "flood": {"start": "flood"},
    "flood-stderr": {"start": "flood-stderr"},
    "flood-without-newline": {"start": "flood-long"},
    "orphans": {"start": "orphans"},
    "fork-many": {"start": "many"},
    "accept-only": {"get": [], "hold": True},
    "close-at-once": {"get": [], "post": []},
    "silent-jobs": {"get": [JSON], "post": [], "hold": True},
    "head-without-end": {"get": [OK], "hold": True},
    "endless-head": {"get": [OK], "again": b"X-A: b\r\n"},
    "endless-health": {"get": [OK + b"\r\n"], "again": b"a" * 4096},
    "endless-small-events": {"get": [JSON], "post": [SSE, STARTED], "again": TOKEN},
    "endless-comments": {"get": [JSON], "post": [SSE, STARTED], "again": b":\n\n"},
    "endless-line": {"get": [JSON], "post": [SSE, b"data: "], "again": b"a" * 4096},
    "endless-newlines": {"get": [JSON], "post": [SSE], "again": b"\n" * 512},
    "never-ends": {"get": [JSON], "post": [SSE, STARTED, TOKEN], "hold": True},
    "one-byte-a-second": {"get": [JSON], "post": [SSE, STARTED], "again": b":", "pause": 1.0},
    "deep-json": {"get": [JSON], "post": [SSE, b"event: token\ndata: " + b"[" * 100_000 + b"\n\n"]},
    "many-digits": {"get": [JSON], "post": [SSE, b'event: end\ndata: {"tokens_out":' + b"9" * 50_000 + b"}\n\n"]},
    "wrong-length": {"get": [JSON], "post": [OK + b"Content-Length: 99999999999\r\n\r\nx"], "hold": True},
    "negative-length": {"get": [JSON], "post": [OK + b"Content-Length: -1\r\n\r\nx"]},
    "bad-chunks": {"get": [JSON], "post": [OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"]},
    "huge-chunk": {"get": [JSON], "post": [OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\na"], "hold": True},
    "binary": {"get": [bytes(range(256)) * 64]},
    "redirect-to-itself": {"get": [b"HTTP/1.1 302 Found\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n"]},
    "only-one-answer": {"get": [JSON], "post": [SSE, STARTED, TOKEN, END]},
}  # fmt: skip


def misbehave(what: str) -> None:
    """What is wrong before anything listens."""
    endless = "import time; time.sleep(100000)"
    if what == "exit":
        sys.exit(0)
    if what == "abort":
        os.abort()
    if what == "sleep":
        time.sleep(100_000)
    if what == "deaf":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    if what.startswith("flood"):
        line = b"x" * 65536 if what == "flood-long" else (b"x" * 99 + b"\n") * 100
        descriptor = 2 if what == "flood-stderr" else 1
        threading.Thread(target=lambda: [os.write(descriptor, line) for _ in iter(int, 1)], daemon=True).start()
    if what in {"orphans", "many"}:
        for _ in range(3 if what == "orphans" else 20):
            subprocess.Popen([sys.executable, "-S", "-c", endless], start_new_session=True)


def serve(kind: dict[str, object], connection: socket.socket) -> None:
    """One connection."""
    try:
        connection.settimeout(60.0)
        request = connection.recv(65536)
        route = "post" if request.startswith(b"POST") else "get"
        pieces = kind.get(route, [JSON] if route == "get" else [SSE, STARTED, TOKEN, END])
        for piece in pieces if isinstance(pieces, list) else []:
            connection.sendall(piece)
        again = kind.get("again")
        while isinstance(again, bytes) and (route == "post" or "post" not in kind):
            connection.sendall(again)
            time.sleep(float(str(kind.get("pause", 0.0))))
        if kind.get("hold") and (route == "post" or "post" not in kind):
            time.sleep(100_000)
    except OSError:
        pass
    finally:
        connection.close()


def main() -> None:
    """Serve on the port of `--port`."""
    kind = WORKERS[sys.argv[1]]
    misbehave(str(kind.get("start", "")))
    listener = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), backlog=64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(kind, connection), daemon=True).start()


if __name__ == "__main__":
    main()

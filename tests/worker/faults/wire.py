"""Bytes to a worker and back, and a server in this process whose limits are short."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from application import CONFIG, IDENTITY
from m0_worker.http.app import Application
from m0_worker.http.callers import Callers
from m0_worker.http.connection_limits import ConnectionLimits
from m0_worker.http.server import Server
from m0_worker.narration import Narrator
from m0_worker.service import Service
from scripted_model import ByteTokenizer, ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(port: int, *, small: bool = False) -> socket.socket:
    """A connection; `small` takes in very little that is not read."""
    connection = socket.socket()
    connection.settimeout(20)
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        # Loopback's segments are so large that ten of them, a first flight, hold all that a job says.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 200)
    connection.connect(("127.0.0.1", port))
    return connection


def fill(connection: socket.socket, request: bytes) -> None:
    """Send a request behind others whose answers take most of the room that there is for what is not read."""
    page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection.sendall(page * 2 + request)  # 25 KB each; a job says less than 100


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the connection ends, however it does."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        received += b"!reset"
    return received


def ask(port: int, request: bytes) -> bytes:
    """The answer to raw bytes, to the end of the connection."""
    with connect(port) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        return to_the_end(connection)


def status(answer: bytes) -> int:
    """The status of an answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def refused(answer: bytes, expected: int) -> dict[str, Any]:
    """The body of an answer that refuses; it is M0's and ends the connection in order."""
    assert status(answer) == expected, answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    assert b"x-correlation-id" in head
    assert not answer.endswith(b"!reset")
    document: dict[str, Any] = json.loads(body)
    assert {"code", "message", "retriable"} <= set(document)
    return document


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request in full; it ends its connection."""
    lines = [f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", "Connection: close", *headers]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.append("Host: localhost")
    return "\r\n".join([*lines, "", ""]).encode() + body


def job(job_id: str = "a", **fields: object) -> bytes:
    """A job's body."""
    return json.dumps({"job_id": job_id, "prompt": "*", "max_tokens": 2, **fields}).encode()


JSON = "Content-Type: application/json"


@contextmanager
def served(script: bytes = b"hello", **limits: Any) -> Iterator[int]:
    """The port of a server in this process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        service = Service(CONFIG, ScriptedModel(script), ByteTokenizer(), IDENTITY, Narrator(CONFIG, io.StringIO()))
        ready = threading.Event()
        application = Application(service, Callers("127.0.0.1"))
        server = Server(application, ready.set, ConnectionLimits(**limits))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        port = listener.getsockname()[1]
        thread.start()
        try:
            assert ready.wait(10)
            yield port
        finally:
            server.stop()
            thread.join(10)
            assert not thread.is_alive()


def eventually(condition: Any, within: float = 10.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

"""Real workers for the tests: a process, a socket, a probe model; and a client that reads the socket itself."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
WORKER_ID = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(model: Path | str, port: int | str, *more: str) -> list[str]:
    base = [sys.executable, "-P", "-m", "m0_worker", "--worker-id", WORKER_ID, "--model", str(model)]
    return [*base, "--gpu-device", "0", "--port", str(port), "--device", "cpu", *more]


def narrate_until(process: subprocess.Popen[bytes], event: str) -> None:
    """Read a worker's log up to an event; a log that ends before it fails the test instead of holding it up."""
    assert process.stdout is not None
    while f'"{event}"'.encode() not in (line := process.stdout.readline()):
        assert line, f"the worker's log ended before {event}"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class Stream:
    """An open POST /execute; reads events as they arrive."""

    def __init__(self, port: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        payload = json.dumps(body).encode()
        head = f"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.socket.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + payload)
        self._response = http.client.HTTPResponse(self.socket)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.arrivals: list[float] = []

    def begin(self) -> http.client.HTTPResponse:
        self._response.begin()
        return self._response

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next event; None at the end of the body."""
        if self._response.headers is None:
            self.begin()
        assert self._response.status == 200, self._response.read()
        name = self._response.readline()
        if not name:
            return None
        data, blank = self._response.readline(), self._response.readline()
        assert name.startswith(b"event: ")
        assert data.startswith(b"data: ")
        assert blank == b"\n"
        event = (name[7:-1].decode(), json.loads(data[6:]))
        self.arrivals.append(time.perf_counter())
        self.events.append(event)
        return event

    def all(self) -> list[tuple[str, dict[str, Any]]]:
        """Every event to the end of the body, which must follow the grammar of M0-W-1311."""
        while self.next() is not None:
            pass
        names = [name for name, _ in self.events]
        assert names[0] == "started"
        assert names[-1] in {"end", "error"}
        assert set(names[1:-1]) <= {"token"}
        tokens = self.tokens()
        assert [token["i"] for token in tokens] == list(range(len(tokens)))
        if names[-1] == "end":
            assert self.last["tokens_out"] == len(tokens)
        else:
            assert set(self.last) == {"code", "message", "retriable"}
        self.close()
        return self.events

    def until_token(self, index: int) -> None:
        while (event := self.next()) is not None:
            if event[0] == "token" and event[1]["i"] >= index:
                return
        raise AssertionError(f"the stream ended before token {index}: {self.events[-1:]}")

    def tokens(self) -> list[dict[str, Any]]:
        return [payload for name, payload in self.events if name == "token"]

    @property
    def text(self) -> str:
        return "".join(token["t"] for token in self.tokens())

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1][1]

    def reset(self) -> None:
        """Drop the connection as a killed client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        self._response.close()
        self.socket.close()


class Worker:
    """A worker process; everything it writes is kept."""

    def __init__(self, model: Path, *more: str, wait: bool = True) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            command(model, self.port, *more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[dict[str, Any]] = []
        self.raw = ""
        self._errors = ""
        self._grown = threading.Condition()
        self._threads = [threading.Thread(target=reader, daemon=True) for reader in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()
        if wait:
            self.event("ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grown:
                self.raw += line
                self.lines.append(json.loads(line))
                self._grown.notify_all()
        self.process.stdout.close()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors = self.process.stderr.read()
        self.process.stderr.close()

    def event(self, name: str, **fields: object) -> dict[str, Any]:
        """Wait for a narrated event."""
        wanted = {"event": name, **fields}
        with self._grown:
            found: dict[str, Any] | None = None

            def look() -> bool:
                nonlocal found
                found = next((line for line in self.lines if wanted.items() <= line.items()), None)
                return found is not None

            assert self._grown.wait_for(look, timeout=20), f"no {wanted} in:\n{self.raw}"
            assert found is not None
            return found

    def names(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def request(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        payload = json.dumps(body).encode() if isinstance(body, dict) else body
        sent = {"Content-Type": "application/json"} if payload is not None else {}
        try:
            connection.request(method, path, payload, sent | (headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        return self.request("GET", "/health").json

    def stream(self, prompt: str = "*", headers: dict[str, str] | None = None, **body: object) -> Stream:
        defaults = {"job_id": f"job-{time.perf_counter_ns()}", "prompt": prompt}
        return Stream(self.port, defaults | body, headers)

    def run(self, prompt: str = "*", **body: object) -> Stream:
        stream = self.stream(prompt, **body)
        stream.all()
        return stream

    def settle(self) -> None:
        """Wait until no job runs or waits."""
        deadline = time.monotonic() + 10
        while self.health()["state"] == "busy":
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def end(self, how: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        return self.exit()

    def exit(self) -> int:
        code = self.process.wait(timeout=40)
        for thread in self._threads:
            thread.join(timeout=10)
        return code

    @property
    def errors(self) -> str:
        self.exit()
        return self._errors

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.exit()

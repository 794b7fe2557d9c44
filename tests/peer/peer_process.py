"""The second worker as a process, and a client that reads whole answers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

WORKER_ID = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(model: Path, port: int, *more: str) -> list[str]:
    base = [sys.executable, "-P", "-m", "m0_peer", "--worker-id", WORKER_ID, "--model", str(model)]
    return [*base, "--gpu-device", "0", "--port", str(port), *more]


class Peer:
    def __init__(self, process: subprocess.Popen[bytes], port: int, client: httpx2.Client) -> None:
        self.process = process
        self.port = port
        self.client = client

    def refusal(self, path: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and body of a POST that gets no stream."""
        answer = self.client.post(path, json=body, headers=headers)
        document: dict[str, Any] = answer.json()
        return answer.status_code, document

    def open(self, **job: object) -> AbstractContextManager[httpx2.Response]:
        """A stream that may be read or left."""
        return self.client.stream("POST", "/execute", json={"job_id": "j", "prompt": "*", "temperature": 0.0, **job})

    def events(self, **job: object) -> list[tuple[str, dict[str, Any]]]:
        with self.open(**job) as answer:
            return read_events(answer.read())

    def wait(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.client.get("/health")
            except httpx2.ConnectError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"the worker is not ready: {self.process.poll()}")


def read_events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


@contextmanager
def peer(model: Path, *more: str, stdout: int = subprocess.DEVNULL) -> Iterator[Peer]:
    port = free_port()
    process = subprocess.Popen(command(model, port, *more), stdout=stdout, stderr=subprocess.PIPE)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
            worker = Peer(process, port, client)
            worker.wait()
            yield worker
    finally:
        process.kill()
        process.communicate()

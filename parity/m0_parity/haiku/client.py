"""A worker process and its streams: started as its own command line, asked over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import httpx2

from m0_parity.compare import IncomparableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PATIENCE: Final = 600.0
"""Seconds without a byte after which a stream is given up; a slow machine needs some for a prompt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One stream.

    Attributes:
        pieces: the texts of its token events.
        first_s: seconds to the first of them, from sending the request.
        rate: tokens a second after it, or 0 where there is one token.
        stop: what its end says: `max_tokens`, `eos`, ...
    """

    pieces: tuple[str, ...]
    first_s: float
    rate: float
    stop: str

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


class Worker:
    """The bundled worker on one file, in a process of its own. Use as a context manager."""

    def __init__(self, model: Path, device: str | None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        asked = [] if device is None else ["--device", device]
        arguments = ["--worker-id", str(uuid.uuid4()), "--model", str(model.resolve()), "--gpu-device", "0", *asked]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "m0_worker", *arguments, "--port", str(self._port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader: threading.Thread | None = None
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False, timeout=_PATIENCE)

    def __enter__(self) -> Self:
        said = []
        log = self._process.stdout
        for line in log or ():
            said.append(line.strip())
            if '"event": "ready"' in line or '"event":"ready"' in line:
                # Whoever writes a log must find a reader, or it blocks when the pipe is full.
                self._reader = threading.Thread(target=lambda: [None for _ in log or ()], daemon=True)
                self._reader.start()
                return self
        self.close()
        raise IncomparableError(f"the worker did not get ready: {said[-1] if said else 'it said nothing'}")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._client.close()
        self._process.terminate()
        self._process.wait()
        if self._reader is not None:
            self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def health(self) -> dict[str, Any]:
        """What /health says."""
        found: dict[str, Any] = self._client.get("/health").json()
        return found

    def ask(
        self,
        prompt: str,
        *,
        temperature: float,
        seed: int,
        max_tokens: int,
        show: Callable[[str], None] = lambda _: None,
    ) -> Answer:
        """Stream one answer; ``show`` gets each piece as it comes.

        Raises:
            IncomparableError: the job was refused or ended with an error.
        """
        body = {"job_id": str(uuid.uuid4()), "prompt": prompt, "temperature": temperature, "seed": seed,
                "max_tokens": max_tokens}  # fmt: skip
        begun, times, pieces, stop = time.perf_counter(), list[float](), list[str](), ""
        with self._client.stream("POST", "/execute", json=body) as response:
            if response.status_code != 200:
                raise IncomparableError(f"the worker answers {response.status_code}: {response.read().decode()}")
            for event, data in _events(response):
                if event == "token":
                    times.append(time.perf_counter())
                    pieces.append(data["t"])
                    show(data["t"])
                elif event == "end":
                    stop = str(data.get("stop_reason", ""))
                elif event == "error":
                    raise IncomparableError(f"the job ended with an error: {data}")
        if not pieces:
            raise IncomparableError("the stream holds no token")
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        return Answer(tuple(pieces), times[0] - begun, rate, stop)


def _events(response: httpx2.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and payloads of a stream's events. Lines end at line feeds alone: text may hold other separators."""
    name, rest = "", b""
    for block in response.iter_bytes():
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            field, _, value = line.rstrip(b"\r").partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                yield name, json.loads(value)

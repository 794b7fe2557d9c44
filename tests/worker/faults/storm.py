"""Ten thousand hostile requests against one worker: `nox -s storm -- --requests 10000`.

Each is made by mutation of valid ones: bytes flipped, cut, repeated; headers without end, doubled, contradictory;
bodies of other lengths than declared; connections reset, half-closed, left alone. No answer may be a 5xx other than the
503 that is documented, no job may be left, a canary must say what it said before, and memory must come back.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

import psutil
from m0_models import probes
from worker_process import Worker

MEGABYTE = 1_000_000
MOST_MEMORY = 20 * MEGABYTE
CLIENTS = 8
_PATHS = [
    b"/health",
    b"/metrics",
    b"/openapi.json",
    b"/docs",
    b"/",
    b"/../etc/passwd",
    b"/%00",
    b"/health?" + b"a" * 300,
]
_ODD_HEADERS = [b"Origin: http://evil.example", b"X-Deadline: " + b"9" * 400, b"X-Correlation-ID: \xff"]
CANARY = {"max_tokens": 60, "temperature": 0.7, "seed": 7}


class Report(NamedTuple):
    """What a storm left behind."""

    requests: int
    seconds: float
    statuses: dict[str, int]  # of answers; "none" where the connection ended without one
    canary_same: bool
    wedged: bool  # a job that nobody waits for still runs
    growth: int  # bytes
    exit_code: int
    errors: str

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        found = [f"{count} answers with status {each}" for each, count in self.statuses.items() if self._bad(each)]
        found += ["the canary says something else"] * (not self.canary_same)
        found += ["a job is left"] * self.wedged
        if self.growth >= MOST_MEMORY:
            found.append(f"memory stays {self.growth / MEGABYTE:.1f} MB larger")
        if self.exit_code or self.errors:
            found.append(f"exit code {self.exit_code}, stderr {self.errors!r:.500}")
        return found

    @staticmethod
    def _bad(status: str) -> bool:
        return status.startswith("5") and status != "503"


def _valid(draw: random.Random, number: int) -> tuple[list[bytes], bytes]:
    """Head lines and body of a request that is in order."""
    job: dict[str, Any] = {"job_id": f"storm-{number}", "prompt": "*", "max_tokens": draw.randrange(1, 6)}
    kind = draw.randrange(6)
    body = b""
    if kind < 3:
        odd = draw.choice(["temperature", "top_p", "top_k", "min_p", "seed", "stop", "max_tokens", "prompt", "unknown"])
        job[odd] = draw.choice([None, -1, 1e308, 2**70, "", "x" * 2000, [], {}, ["END"] * 9, True, "\ud800", 0.5])
        body = json.dumps(job).encode()
        line = b"POST /execute HTTP/1.1"
    elif kind == 3:
        body = json.dumps({"job_id": draw.choice([f"storm-{number - 1}", "", 7, None])}).encode()
        line = b"POST /cancel HTTP/1.1"
    else:
        line = b"GET " + draw.choice(_PATHS) + b" HTTP/1.1"
    head = [line, b"Host: localhost", b"Connection: close"]
    if body:
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return head, body


def _hostile(draw: random.Random, number: int) -> bytes:
    """The bytes of one request."""
    head, body = _valid(draw, number)
    for _ in range(draw.randrange(3)):
        at = draw.randrange(len(head))
        what = draw.randrange(8)
        if what == 0:
            head.insert(at + 1, b"x-%d: " % at + b"y" * draw.choice([1, 1000, 40_000]))
        elif what == 1:
            head.insert(at + 1, head[at])
        elif what == 2 and at:
            del head[at]
        elif what == 3:
            head.append(draw.choice([b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Content-Length: -1"]))
        elif what == 4:
            head.append(draw.choice([b"Expect: 100-continue", b"Connection: Upgrade\r\nUpgrade: websocket", b"\0: \0"]))
        elif what == 5:
            head.extend([b"z: z"] * draw.choice([10, 200]))
        elif what == 6:
            head[at] = bytes(draw.choice([byte, draw.randrange(256)]) for byte in head[at])
        else:
            head.append(draw.choice(_ODD_HEADERS))
    request = bytearray(b"\r\n".join(head) + b"\r\n\r\n" + body)
    for _ in range(draw.choice([0, 0, 0, 1, 5])):
        request[draw.randrange(len(request))] = draw.randrange(256)
    if draw.random() < 0.1:
        del request[draw.randrange(len(request)) :]
    if draw.random() < 0.05:
        request *= 20
    # What could end the worker by right would end the storm: no request may say so.
    return bytes(request).replace(b"/shutdown", b"/shutdOwn")


def _send(draw: random.Random, port: int, request: bytes) -> str:
    """Send it in one of many ways; the status of the first answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            if draw.random() < 0.1:
                cut = draw.randrange(len(request) + 1)
                connection.sendall(request[:cut])
                time.sleep(draw.random() / 100)
                connection.sendall(request[cut:])
            else:
                connection.sendall(request)
            leaving = draw.random()
            if leaving < 0.1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return "left"
            if leaving < 0.9:  # or wait for the end of an incomplete request, as long as the worker does
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(1.0)
            answer = b""
            while len(answer) < 12 and (chunk := connection.recv(65536)):
                answer += chunk
            while connection.recv(65536):
                pass
    except TimeoutError:
        return "left"
    except OSError:
        return "none"
    return answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "none"


def storm(requests: int, seed: int = 1) -> Report:
    """Send so many."""
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(probes.script(Path(folder) / "script.gguf").path)
        try:
            return _storm(worker, requests, seed)
        finally:
            worker.kill()


def _storm(worker: Worker, requests: int, seed: int) -> Report:
    process = psutil.Process(worker.process.pid)
    warm = random.Random(0)
    for number in range(min(500, requests)):  # what is imported and allocated at first use is not growth
        _send(warm, worker.port, _hostile(warm, number))
    worker.settle()
    canary = worker.run(**CANARY).text
    before = process.memory_info().rss
    statuses: Counter[str] = Counter()
    lock = threading.Lock()
    begun = time.monotonic()

    def client(first: int) -> None:
        draw = random.Random(f"{seed}-{first}")
        for number in range(first, requests, CLIENTS):
            status = _send(draw, worker.port, _hostile(draw, number))
            with lock:
                statuses[status] += 1

    clients = [threading.Thread(target=client, args=(first,)) for first in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    seconds = time.monotonic() - begun
    try:
        worker.settle()
        wedged = False
    except AssertionError:
        wedged = True
    same = not wedged and worker.run(**CANARY).text == canary
    growth = process.memory_info().rss - before
    code = worker.end()
    return Report(requests, seconds, dict(statuses), same, wedged, growth, code, worker.errors)


def main() -> int:
    """The session's command."""
    parser = argparse.ArgumentParser(prog="nox -s storm --")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    report = storm(given.requests, given.seed)
    print(json.dumps(report._asdict(), indent=1))  # noqa: T201 - its output
    print("\n".join(report.problems) or "no 5xx, no job left, the canary sings")  # noqa: T201 - its output
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main())

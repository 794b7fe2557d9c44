"""A worker under a mixed load for a long time: `nox -s soak -- --minutes 30`.

Four clients run, cancel, drop, overload and misuse it at random. In the end every job that was let in must have had its
one terminal event (unless its client left), the client's, the log's and the metrics' counts must be equal, and the
worker may not have grown.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
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
from worker_process import ROOT, Stream, command, free_port

MEGABYTE = 1_000_000
MOST_GROWTH = 5 * MEGABYTE
CLIENTS = 4
_WARM_UP = 0.2  # of the whole time, and no more than two minutes
_OUTCOMES = {"end": "success", "CANCELLED": "cancelled", "INFERENCE_TIMEOUT": "timeout", "VRAM_OOM": "error"}


class Report(NamedTuple):
    """What a soak found."""

    seconds: float
    client: dict[str, int]  # jobs by outcome as their clients saw them
    log: dict[str, int]
    metrics: dict[str, int]
    lost: int  # streams that were read to their end and had no terminal event
    unexpected: list[str]
    growth: int  # bytes, from after the warm-up to the end
    exit_code: int

    @property
    def problems(self) -> list[str]:
        """What must not be; nothing, of a worker that holds."""
        found = list(self.unexpected)
        if self.lost:
            found.append(f"{self.lost} jobs without a terminal event")
        if not self.client == self.log == self.metrics:
            found.append(f"counts differ: clients {self.client}, log {self.log}, metrics {self.metrics}")
        if self.growth >= MOST_GROWTH:
            found.append(f"memory grew by {self.growth / MEGABYTE:.1f} MB")
        if self.exit_code:
            found.append(f"exit code {self.exit_code}")
        return found


class _Load:
    def __init__(self, port: int, until: float) -> None:
        self._port = port
        self._until = until
        self.outcomes: Counter[str] = Counter()
        self.lost = 0
        self.unexpected: list[str] = []
        self._lock = threading.Lock()

    def client(self, number: int) -> None:
        draw = random.Random(number)
        n = 0
        while time.monotonic() < self._until:
            n += 1
            try:
                self._job(draw, f"soak-{number}-{n}")
            except (OSError, AssertionError) as error:
                with self._lock:
                    self.unexpected.append(f"client {number}, job {n}: {error!r:.300}")
                return

    def _job(self, draw: random.Random, job_id: str) -> None:
        kind = draw.choice(["short", "long", "cancel", "drop", "bad", "ask"])
        if kind == "bad":
            self._count("rejected", self._post("/execute", b'{"job_id":' + b"x" * draw.randrange(5000)) == 400)
            return
        if kind == "ask":
            assert self._get(draw.choice(["/health", "/metrics", "/openapi.json"])) == 200
            return
        tokens = draw.randrange(1, 20) if kind == "short" else 400
        body = {"job_id": job_id, "prompt": "*" * draw.randrange(1, 50), "max_tokens": tokens, "seed": 1}
        stream = Stream(self._port, body)
        if stream.begin().status != 200:  # the line is full
            self._count("rejected", stream.begin().status == 503)
            stream.close()
            time.sleep(0.05)  # or a load of refusals is all that there is
            return
        if kind == "drop":
            stream.until_token(draw.randrange(5))
            stream.reset()
            self._count("disconnected", True)
            return
        if kind == "cancel":
            stream.until_token(draw.randrange(5))
            self._post("/cancel", json.dumps({"job_id": job_id}).encode())
        while stream.next() is not None:
            pass
        stream.close()
        name, payload = stream.events[-1]
        if name not in {"end", "error"}:
            with self._lock:
                self.lost += 1
            return
        self._count(_OUTCOMES[str(payload.get("code", name))], True)

    def _count(self, outcome: str, as_expected: bool) -> None:
        assert as_expected, outcome
        with self._lock:
            self.outcomes[outcome] += 1

    def _post(self, path: str, body: bytes) -> int:
        return _ask(self._port, "POST", path, body)

    def _get(self, path: str) -> int:
        return _ask(self._port, "GET", path)


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> int:
    return _answer(port, method, path, body)[0]


def _answer(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    import http.client  # noqa: PLC0415

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def soak(seconds: float, *, tell: Any = lambda _: None) -> Report:
    """Load a worker for so long."""
    with tempfile.TemporaryDirectory() as folder:
        model = probes.script(Path(folder) / "script.gguf").path
        port = free_port()
        worker = subprocess.Popen(
            command(model, port, "--queue-depth", "2"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            return _soak(worker, port, seconds, tell)
        finally:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


def _soak(worker: subprocess.Popen[bytes], port: int, seconds: float, tell: Any) -> Report:
    log: Counter[str] = Counter()
    ready = threading.Event()

    def read() -> None:
        for line in worker.stdout or ():
            event = json.loads(line)
            if event["event"] == "execute_end":
                log[event["outcome"]] += 1
            elif event["event"] == "ready":
                ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert ready.wait(30)
    begun = time.monotonic()
    load = _Load(port, begun + seconds)
    clients = [threading.Thread(target=load.client, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    process = psutil.Process(worker.pid)
    warm = begun + min(120.0, seconds * _WARM_UP)
    sizes: list[int] = []
    told = begun
    while any(client.is_alive() for client in clients):
        time.sleep(min(1.0, seconds / 50))
        if time.monotonic() > warm:
            sizes.append(process.memory_info().rss)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            tell(f"{told - begun:.0f} s, {sum(load.outcomes.values())} jobs, {process.memory_info().rss / 1e6:.0f} MB")
    while json.loads(_answer(port, "GET", "/health")[1])["state"] == "busy":
        time.sleep(0.05)
    text = _answer(port, "GET", "/metrics")[1].decode()
    metrics = {
        outcome: int(float(count))
        for outcome, count in re.findall(r'worker_requests_total\{outcome="(\w+)"\} (\S+)', text)
        if float(count)
    }
    worker.terminate()
    code = worker.wait(30)
    reader.join(10)
    log["rejected"] = metrics.get("rejected", 0)  # no job, so no line: the metrics alone count it
    tenth = max(1, len(sizes) // 10)
    growth = int(statistics.median(sizes[-tenth:]) - statistics.median(sizes[:tenth]))
    seen = {outcome: count for outcome, count in log.items() if count}
    return Report(
        time.monotonic() - begun, dict(load.outcomes), seen, metrics, load.lost, load.unexpected, growth, code
    )


def main() -> int:
    """The session's command."""
    parser = argparse.ArgumentParser(prog="nox -s soak --")
    parser.add_argument("--minutes", type=float, default=30.0)
    report = soak(60 * parser.parse_args().minutes, tell=lambda line: print(line, flush=True))  # noqa: T201 - its output
    print(json.dumps(report._asdict(), indent=1))  # noqa: T201 - its output
    print("\n".join(report.problems) or "nothing lost, nothing grown, all counts equal")  # noqa: T201 - its output
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main())

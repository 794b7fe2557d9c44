"""The worker's HTTP side with a probe model and one client: tokens a second, start-up, memory, /health and cancel.

`python -m bench.sse` prints a table and one line of JSON. The client is httpx2 in a process of its own.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from m0_models import probes

from bench import client, llama_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx2

TOKENS = 2048
RUNS = 5
ROUNDS = 3
STARTS = 5
HEALTH_SAMPLES = 400
CANCEL_SAMPLES = 40

TARGETS = {
    "sse_tokens_per_s": ">= 3000",
    "start_s": "< 1.5",
    "rss_mb": "< 250",
    "health_p99_ms": "< 10",
    "cancel_p95_ms": "< 100",
}


def quantile(samples: Sequence[float], q: float) -> float:
    """The smallest sample that is not below a share q of them."""
    ranked = sorted(samples)
    return ranked[min(len(ranked) - 1, int(len(ranked) * q))]


class Worker:
    """A worker process, how long it took to be ready, and when its log had which event first.

    Attributes:
        seen: seconds from the start of the process to each event of its log.
        memory: bytes of anonymous memory it had at each of these events; looking costs it time, so only if asked for.
        peak: most bytes that were seen before it was ready.
    """

    def __init__(
        self, model: Path, *, device: str = "cpu", environment: dict[str, str] | None = None, watched: bool = False
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        arguments = ["--worker-id", str(uuid.uuid4()), "--model", str(model), "--gpu-device", "0", "--device", device]
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "m0_worker", *arguments, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            env=None if environment is None else os.environ | environment,
        )
        self.seen: dict[str, float] = {}
        self.memory: dict[str, int] = {}
        self.peak = 0
        done = threading.Event()
        if watched:
            threading.Thread(target=self._watch, args=(done,), daemon=True).start()
        log = self.process.stdout
        for line in log or ():
            event = str(json.loads(line).get("event")) if line.startswith("{") else ""
            self.seen.setdefault(event, time.perf_counter() - begun)
            if watched:
                self.memory.setdefault(event, anonymous_bytes(self.process.pid))
            if event == "ready":
                break
        done.set()
        if log is None or "ready" not in self.seen:
            raise RuntimeError("the worker did not get ready")
        self.start_s = self.seen["ready"]
        threading.Thread(target=lambda: [None for _ in log], daemon=True).start()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(0.005):
            self.peak = max(self.peak, anonymous_bytes(self.process.pid))

    def execute(self, tokens: int, job_id: str | None = None, prompt: str = "*", **options: object) -> httpx2.Response:
        """Send POST /execute; its events are still to be read."""
        body = {"job_id": job_id or str(uuid.uuid4()), "prompt": prompt, "max_tokens": tokens, **options}
        return self.send("/execute", body)

    def send(self, path: str, document: dict[str, object]) -> httpx2.Response:
        """Send a POST of JSON."""
        return client.post(self.port, path, document)

    def end(self) -> None:
        """Terminate it."""
        self.process.terminate()
        self.process.wait()


def anonymous_bytes(pid: int) -> int:
    """Anonymous memory of a process: what it allocated itself, without the mapped model file; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")), 0)


def throughput(worker: Worker, *, at_least: int = TOKENS, **options: Any) -> float:
    """Tokens a second of one job, from sending the request to the end of the response.

    A sampled job may come to its end of sequence earlier; ``at_least`` says how few tokens still make a rate.
    """
    begun = time.perf_counter()
    tokens = client.drain(worker.execute(TOKENS, **options)).count(b"event: token\n")
    seconds = time.perf_counter() - begun
    if not at_least <= tokens <= TOKENS:
        raise RuntimeError(f"{tokens} token events, not {at_least} to {TOKENS}")
    return tokens / seconds


def _load(worker: Worker) -> None:
    while True:
        client.drain(worker.execute(TOKENS))


def get_times(port: int, path: str, samples: int) -> list[float]:
    """Seconds of so many GETs, each on a new connection."""
    times = []
    for _ in range(samples):
        time.sleep(0.005)
        times.append(client.get_seconds(port, path))
    return times


def health_times(worker: Worker) -> list[float]:
    """Seconds of GET /health, each on a new connection, while jobs run one after the other."""
    load = get_context("fork").Process(target=_load, args=(worker,), daemon=True)
    load.start()
    time.sleep(0.3)
    times = get_times(worker.port, "/health", HEALTH_SAMPLES)
    load.terminate()
    load.join()
    return times


def cancel_times(worker: Worker, **options: Any) -> list[float]:
    """Seconds from sending POST /cancel to the end of the cancelled response."""
    times = []
    for number in range(CANCEL_SAMPLES):
        stream = worker.execute(TOKENS, f"victim-{number}", **options)
        events = client.pieces(stream)
        next(events)
        time.sleep(0.02)
        begun = time.perf_counter()
        cancel = worker.send("/cancel", {"job_id": f"victim-{number}"})
        if b'"CANCELLED"' in b"".join(data for _, data in events):
            times.append(time.perf_counter() - begun)
        client.drain(cancel)
    return times


def measure() -> dict[str, float]:
    """Every figure."""
    with tempfile.TemporaryDirectory() as folder:
        fast, script = Path(folder) / "metronome.gguf", Path(folder) / "script.gguf"
        probes.metronome(fast)
        probes.script(script)
        starts = []
        for _ in range(STARTS):
            worker = Worker(script)
            starts.append(worker.start_s)
            worker.end()
        rates: list[float] = []
        reference: list[float] = []
        for _ in range(ROUNDS):  # in turns, so that a noisy neighbour hits both
            worker = Worker(fast)
            throughput(worker)
            rates += [throughput(worker) for _ in range(RUNS)]
            worker.end()
            reference += llama_server.measure(fast, RUNS)
        worker = Worker(script)
        health = health_times(worker)
        cancel = cancel_times(worker)
        rss = psutil.Process(worker.process.pid).memory_info().rss
        worker.end()
    return {
        "sse_tokens_per_s": round(statistics.median(rates)),
        "llama_server_tokens_per_s": round(statistics.median(reference)),
        "start_s": round(statistics.median(starts), 3),
        "rss_mb": round(rss / 1e6, 1),
        "health_p50_ms": round(quantile(health, 0.5) * 1e3, 2),
        "health_p99_ms": round(quantile(health, 0.99) * 1e3, 2),
        "cancel_p50_ms": round(quantile(cancel, 0.5) * 1e3, 2),
        "cancel_p95_ms": round(quantile(cancel, 0.95) * 1e3, 2),
    }


def main() -> int:
    """Measure, print, and return 0."""
    figures = measure()
    for name, value in figures.items():
        print(f"{name:18} {value:>10} {TARGETS.get(name, ''):>10}")  # noqa: T201 - the point of the program
    print(json.dumps({"bench": "sse", **figures}))  # noqa: T201 - the same
    return 0


if __name__ == "__main__":
    sys.exit(main())

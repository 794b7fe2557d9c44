"""A worker process with a real model: start, memory beside the mapped file, how long others wait while it computes."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

from bench import client
from bench.sse import Worker, quantile

PROMPT = "The quick brown fox jumps over the lazy dog, and nobody in the village was surprised by it. " * 22
STARTS = 3

TARGETS = {"real_above_weights_mb": "< 350"}


def above_file_bytes(pid: int, model: Path) -> int:
    """Resident bytes of a process without those of the mapped model file."""
    total = 0
    mapped = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):  # the head of a mapping: addresses first, a path at the end
            mapped = words[-1] == str(model)
        elif words[0] == "Rss:" and not mapped:
            total += int(words[1]) * 1024
    return total


def measure(model: Path) -> dict[str, float]:
    """Start it three times; in the last, answer a long prompt and ask for /health all the while."""
    model = model.resolve()
    starts = []
    for i in range(STARTS):
        worker = Worker(model)
        starts.append(worker.start_s)
        if i < STARTS - 1:
            worker.end()
    try:
        ended = threading.Event()

        def job() -> None:
            client.drain(worker.execute(48, prompt=PROMPT, temperature=0.0))
            ended.set()

        thread = threading.Thread(target=job, daemon=True)
        thread.start()
        waits = []
        while not ended.is_set():
            waits.append(1000 * client.get_seconds(worker.port, "/health"))
            time.sleep(0.01)
        thread.join()
        # Weights are copied from the file: what the worker says it holds is theirs, the rest is what it costs to serve.
        weights = int(client.get(worker.port, "/health").json()["vram_bytes_used"])
        resident = above_file_bytes(worker.process.pid, model)
    finally:
        worker.end()
    return {
        "real_start_s": round(statistics.median(starts), 2),
        "real_resident_mb": round(resident / 1e6, 1),
        "real_above_weights_mb": round((resident - weights) / 1e6, 1),
        "real_health_p50_ms": round(quantile(waits, 0.5), 2),
        "real_health_p99_ms": round(quantile(waits, 0.99), 2),
        "real_health_max_ms": round(max(waits), 2),
    }

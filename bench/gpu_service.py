"""Both servers over HTTP on one GPU, one client: the worker's event stream beside llama.cpp's server, the same rows."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import tempfile
import time
from itertools import pairwise
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

import httpx2
import psutil
from m0_worker.gguf import GgufFile
from m0_worker.tokenizers import load_tokenizer

from bench import client, sse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Send = Callable[..., httpx2.Response]

STREAMS = 3
STARTS = 3
FIRST_TOKENS = 40
REQUESTS, REQUEST_TOKENS = 40, 64
"""Requests over which the worker's CPU time is counted, and their tokens."""
PROMPT: Final = 512
"""Tokens of the longer prompt whose first token is waited for."""
FIRST_TOKEN, ARRIVALS = f"first token, prompt of {PROMPT}", "between arrivals"


def prompt_of(path: Path, n: int) -> str:
    """A string of about n tokens."""
    gguf = GgufFile.open(path)
    encode = load_tokenizer(gguf, path.parent).encode
    per_word = len(encode("a " * 64)) / 64
    text = "a " * round(n / per_word)
    gguf.close()
    return text


def arrival_times(response: httpx2.Response, mark: bytes) -> list[float]:
    """When each piece that holds ``mark`` arrived."""
    return [at for at, data in client.pieces(response) if mark in data]


def first_token(send: Callable[[], httpx2.Response], mark: bytes) -> list[float]:
    """Seconds from sending a request to the first piece that holds a token."""
    times = []
    for _ in range(FIRST_TOKENS):
        begun = time.perf_counter()
        times.append(arrival_times(send(), mark)[0] - begun)
    return times


def _quantiles(name: str, seconds: list[float], *quantiles: float) -> dict[str, float]:
    return {f"{name} p{round(100 * q)} ms": 1e3 * sse.quantile(seconds, q) for q in quantiles}


def _gaps(arrivals: list[float]) -> list[float]:
    return [b - a for a, b in pairwise(arrivals)]


def start_rows(path: Path) -> tuple[dict[str, float], sse.Worker]:
    """Time and memory until the worker is ready, without and with compiled kernels; and a worker that is."""
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as empty:

        def start(folder: str, *, watched: bool = False) -> sse.Worker:
            places = {"XDG_CACHE_HOME": folder, "CUDA_CACHE_PATH": f"{folder}/driver"}
            return sse.Worker(path, device="cuda", environment=places, watched=watched)

        def ended(worker: sse.Worker) -> sse.Worker:
            worker.end()
            return worker

        first = ended(start(kept))
        starts = sorted((ended(start(kept)) for _ in range(STARTS)), key=lambda worker: worker.start_s)
        compiling = ended(start(empty, watched=True))
        ready = start(kept, watched=True)
    again = starts[STARTS // 2]
    rows = {"first start s": first.start_s, "start s": again.start_s}
    for which, worker in (("first start", first), ("start", again)):
        rows |= {f"{which}: until {event} s": at for event, at in worker.seen.items() if not event.endswith("progress")}
    for which, seen in (("", ready), (", first start", compiling)):
        before = seen.memory["model_load_start"]
        rows |= {
            f"host memory before loading{which} MB": before / 1e6,
            f"host memory when ready{which} MB": seen.memory["ready"] / 1e6,
            f"host memory, growth while loading{which} MB": (seen.peak - before) / 1e6,
        }
    return rows, ready


def cpu_a_request(worker: sse.Worker, **options: Any) -> float:
    """Milliseconds of CPU that the worker's process spends on a request."""
    process = psutil.Process(worker.process.pid)

    def spent() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    sse.drain(worker.execute(REQUEST_TOKENS, temperature=0, **options))
    before = spent()
    for _ in range(REQUESTS):
        sse.drain(worker.execute(REQUEST_TOKENS, temperature=0, **options))
    return 1e3 * (spent() - before) / REQUESTS


def worker_rows(path: Path) -> dict[str, float]:
    """The bundled worker: start-up, memory, streams, first token, /health and cancel."""
    rows, worker = start_rows(path)
    greedy: dict[str, Any] = {"temperature": 0}
    sse.throughput(worker, **greedy)
    rows["event stream, temperature 0"] = statistics.median(sse.throughput(worker, **greedy) for _ in range(STREAMS))
    # Random weights draw an end of sequence now and then; these seeds are the same in every run.
    rows["event stream, temperature 1"] = statistics.median(
        sse.throughput(worker, at_least=64, temperature=1, seed=seed) for seed in range(STREAMS)
    )
    mark = b"event: token\n"
    arrivals = arrival_times(worker.execute(sse.TOKENS, temperature=1), mark)
    rows |= _quantiles(ARRIVALS, _gaps(arrivals), 0.5, 0.95)
    rows |= _quantiles("first token", first_token(lambda: worker.execute(4, temperature=1), mark), 0.5, 0.95)
    text = prompt_of(path, PROMPT)
    rows |= _quantiles(FIRST_TOKEN, first_token(lambda: worker.execute(4, prompt=text, temperature=1), mark), 0.5, 0.95)
    rows[f"host CPU a request of {REQUEST_TOKENS} tokens ms"] = cpu_a_request(worker)
    rows[f"the same behind a prompt of {PROMPT} ms"] = cpu_a_request(worker, prompt=text)
    rows |= _quantiles("/health while decoding", sse.health_times(worker), 0.5, 0.99)
    rows |= _quantiles("cancel", sse.cancel_times(worker, temperature=1), 0.5, 0.95)
    worker.end()
    return rows


def llama_rows(binary: str, path: Path, context: int) -> dict[str, float]:
    """llama.cpp's server with the same file: flash attention, all layers on the device, one slot."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "-m", str(path), "-ngl", "99", "-fa", "on", "-c", str(context), "-np", "1", "--port", str(port)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _listens(port):
            if process.poll() is not None or time.perf_counter() - begun > 120:
                raise RuntimeError("llama-server did not get ready")
            time.sleep(0.01)
        start_s = time.perf_counter() - begun
        return {"start s": start_s, **server_rows(port, prompt_of(path, PROMPT))}
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        return client.get(port, "/health").status_code == 200
    except httpx2.TransportError:
        return False


def server_rows(port: int, text: str) -> dict[str, float]:
    """The rows of a llama.cpp server that listens on a port of this machine."""
    mark = b"data: "

    def ask(n: int, prompt: str = "*", temperature: float = 1.0) -> httpx2.Response:
        body = {"prompt": prompt, "n_predict": n, "stream": True, "ignore_eos": True, "cache_prompt": False}
        plain = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}  # the worker's defaults: no filters
        return client.post(port, "/completion", {**body, **plain, "temperature": temperature})

    def rate(temperature: float) -> float:
        begun = time.perf_counter()
        answer = client.drain(ask(sse.TOKENS, temperature=temperature))
        seconds = time.perf_counter() - begun
        # Counted as the server counts: an event waits where a token ends within a character.
        tokens = json.loads(answer.rpartition(mark)[2].partition(b"\n")[0])["tokens_predicted"]
        if tokens < sse.TOKENS:
            raise RuntimeError(f"{tokens} tokens, not {sse.TOKENS}")
        return sse.TOKENS / seconds

    rate(1.0)
    rows = {f"event stream, temperature {t}": statistics.median(rate(float(t)) for _ in range(STREAMS)) for t in (0, 1)}
    rows |= _quantiles(ARRIVALS, _gaps(arrival_times(ask(sse.TOKENS), mark)), 0.5, 0.95)
    rows |= _quantiles("first token", first_token(lambda: ask(4), mark), 0.5, 0.95)
    rows |= _quantiles(FIRST_TOKEN, first_token(lambda: ask(4, text), mark), 0.5, 0.95)
    load = get_context("fork").Process(target=_load, args=(ask,), daemon=True)
    load.start()
    time.sleep(0.3)
    rows |= _quantiles("/health while decoding", sse.get_times(port, "/health", sse.HEALTH_SAMPLES), 0.5, 0.99)
    load.terminate()
    load.join()
    return rows


def _load(ask: Send) -> None:
    while True:
        client.drain(ask(sse.TOKENS))


if __name__ == "__main__":
    import sys
    from pathlib import Path as _Path

    print(json.dumps(worker_rows(_Path(sys.argv[1])), indent=1))  # noqa: T201 - the result

"""llama.cpp's own server with the same probe model: what a user would pick in place of the worker.

`python -m bench.llama_server MODEL RUNS` prints the tokens a second of each run as one line of JSON. It runs in a
process of its own, as the worker does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
from typing import TYPE_CHECKING

from bench import client

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = 2048


def streams(model: str, runs: int) -> list[float]:
    """Tokens a second of streamed completions, from sending the request to the end of the response."""
    import xllamacpp  # noqa: PLC0415 - loads a large shared object

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 4 * TOKENS
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    port = urllib.parse.urlparse(server.listening_address).port or 80
    body = {"prompt": "*", "n_predict": TOKENS, "stream": True, "temperature": 0, "ignore_eos": True}
    rates = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        events = client.drain(client.post(port, "/completion", body)).count(b"data: ")
        if events < TOKENS:
            raise RuntimeError(f"{events} events, not {TOKENS}")
        rates.append(TOKENS / (time.perf_counter() - begun))
    return rates[1:]


def measure(model: Path, runs: int) -> list[float]:
    """The same in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.llama_server", str(model), str(runs)], capture_output=True, text=True, check=True
    )
    return [float(rate) for rate in json.loads(done.stdout.strip().splitlines()[-1])]


if __name__ == "__main__":
    print(json.dumps(streams(sys.argv[1], int(sys.argv[2]))))  # noqa: T201 - the result

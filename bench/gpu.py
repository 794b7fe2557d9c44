"""The CUDA worker on the three real shapes, beside llama.cpp: its llama-bench and its server, where they are given.

`python -m bench.gpu [--llama-bench PATH] [--llama-server PATH] [--models DIR] [--output DIR] [SHAPE | FILE.gguf ...]`
on a machine with an NVIDIA device. Shapes are models made by code (`m0_models.bulk`). Speeds are tokens a second of one
sequence; "GB/s" is the weights that a token reads times tokens a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np
import pynvml
from m0_models import bulk
from m0_worker.devices import open_device
from m0_worker.devices.cuda.device import describe
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

from bench import gpu_report, gpu_service, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from m0_worker.devices.interface import Decoding
    from m0_worker.engine import Model

CONTEXTS = (0, 512, 4000)
PROMPTS = (512, 2048)
STEPS = 128
GREEDY = SamplingParams(temperature=0.0)


def drain(generator: Any) -> Any:
    """The return value of a generator run to its end."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def copy_bandwidth() -> float:
    """Bytes a second of a device-to-device copy, read and written."""
    n = 1 << 30
    a, b = cupy.empty(n, cupy.uint8), cupy.empty(n, cupy.uint8)
    a[:] = 1
    b[:] = a
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    for _ in range(20):
        b[:] = a
    end.record()
    end.synchronize()
    return 20 * 2 * n / (float(cupy.cuda.get_elapsed_time(begin, end)) * 1e-3)


def decode(job: Decoding, n: int) -> None:
    """Bring n tokens to the host, lined up as the worker's jobs do it (m0_worker.generation)."""
    launched = 0
    for collected in range(n):
        while launched < min(n, collected + job.depth):
            job.launch()
            launched += 1
        drain(job.collect())


def decode_speed(model: Model, context: int, n_ctx: int) -> float:
    """Tokens a second after ``context`` tokens, each brought to the host.

    The median of five jobs, since llama-bench too reports several.
    """
    rng = np.random.default_rng(context)
    context = min(context, n_ctx - STEPS - 8)
    rates = []
    for _ in range(5):
        job = model.open(context + STEPS + 8, GREEDY, seed=0)
        drain(job.prefill(rng.integers(0, model.n_vocab, max(context, 1)).tolist()))
        drain(job.collect())
        decode(job, 4)
        start = time.perf_counter()
        decode(job, STEPS)
        rates.append(STEPS / (time.perf_counter() - start))
        job.close()
    return sorted(rates)[2]


def prefill_speed(model: Model, n: int) -> float:
    """Prompt tokens a second, up to the first token on the host; the median of five."""
    times = []
    rng = np.random.default_rng(n)
    for _ in range(6):
        job = model.open(n + 1, GREEDY, seed=0)
        prompt = rng.integers(0, model.n_vocab, n).tolist()
        start = time.perf_counter()
        drain(job.prefill(prompt))
        drain(job.collect())
        times.append(time.perf_counter() - start)
        job.close()
    return n / sorted(times[1:])[2]


def stream_speed(model: Model, sampling: SamplingParams, n_ctx: int) -> float:
    """Tokens a second of what the event stream's job asks of the engine: one token in, `sse.TOKENS` out."""
    n = min(sse.TOKENS, n_ctx - 1)
    rates = []
    for _ in range(4):
        start = time.perf_counter()
        job = model.open(n + 1, sampling, seed=1)
        drain(job.prefill([1]))
        drain(job.collect())
        decode(job, n - 1)
        job.close()
        rates.append(n / (time.perf_counter() - start))
    return sorted(rates[1:])[1]


def bytes_per_token(gguf: GgufFile) -> int:
    """Stored bytes of the weights that one decoded token reads: of experts the chosen, of embeddings a row at most."""
    arch = gguf.architecture
    used, count = (int(str(gguf.metadata.get(f"{arch}.{key}", 1))) for key in ("expert_used_count", "expert_count"))
    total = 0
    for name, tensor in gguf.tensors.items():
        if name == "token_embd.weight" and "output.weight" in gguf.tensors:
            continue
        total += tensor.nbytes * used // max(count, 1) if len(tensor.shape) == 3 else tensor.nbytes
    return total


def context_length(path: Path) -> int:
    """Positions that a model file says it was made for."""
    gguf = GgufFile.open(path)
    length = int(str(gguf.metadata[f"{gguf.architecture}.context_length"]))
    gguf.close()
    return length


def engine(path: Path, context: int) -> dict[str, Any]:
    """The engine by itself; runs in a process of its own, whose device memory is gone with it."""
    before = device_bytes()
    start = time.perf_counter()
    gguf = GgufFile.open(path)
    device: Any = open_device("cuda")
    n_ctx = min(context, 4352)
    model = load_model(gguf, device, n_ctx=n_ctx)
    device.stream.synchronize()
    rows: dict[str, float] = {"engine load s": time.perf_counter() - start}
    for n in CONTEXTS:
        rows[f"decode@{n}"] = decode_speed(model, n, n_ctx)
    for n in PROMPTS:
        rows[f"prefill {n}"] = prefill_speed(model, n)
    rows["engine stream, temperature 0"] = stream_speed(model, GREEDY, n_ctx)
    rows["engine stream, temperature 1"] = stream_speed(model, SamplingParams(), n_ctx)
    read = bytes_per_token(gguf)
    memory = model.memory
    result = {
        "file_bytes": path.stat().st_size,
        "bytes_per_token": read,
        "weights_bytes": memory.weights,
        "intermediates_bytes": memory.intermediates,
        "device_bytes": device_bytes() - before,
        "device": describe(device),
        "rows": rows,
    }
    device.close()
    return result


def device_bytes() -> int:
    """Memory of device 0 in use by anybody, as the driver tells it."""
    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


def llama_bench(binary: str, path: Path) -> dict[str, float]:
    """What llama-bench says about the same file: flash attention on, all layers on the device."""
    command = [binary, "-m", str(path), "-ngl", "99", "-fa", "1", "-o", "json", "-r", "3"]
    rows: dict[str, float] = {}
    for extra in (["-p", "512,2048", "-n", "0"], ["-p", "0", "-n", "128", "-d", "0,512,4000"]):
        done = subprocess.run([*command, *extra], capture_output=True, text=True, check=True)
        for row in json.loads(done.stdout):
            name = f"decode@{row['n_depth']}" if row["n_gen"] else f"prefill {row['n_prompt']}"
            rows[name] = float(row["avg_ts"])
    return rows


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(name: str, folder: Path, tools: Tools) -> dict[str, Any]:
    """All rows of one shape, or of a model file."""
    if name.endswith(".gguf"):
        path, longest = Path(name), context_length(Path(name))
        name = path.stem
    else:
        shape, quant = bulk.BENCHMARKS[name]
        path, longest = folder / f"{name}.gguf", shape.context
        if not path.exists():
            bulk.write(path, shape, quant, name=name)
    result: dict[str, Any] = alone(engine, path, longest)
    rows: dict[str, dict[str, float]] = {"worker": result.pop("rows"), "llama.cpp": {}}
    failed: dict[str, str] = {}

    def part(whose: str, what: str, function: Callable[..., dict[str, float]], *arguments: Any) -> None:
        try:
            rows[whose] |= function(*arguments)
        except (RuntimeError, OSError, ValueError, LookupError, subprocess.CalledProcessError) as error:
            failed[what] = f"{type(error).__name__}: {error}"  # what the other parts measured is kept

    if tools.llama_bench:
        part("llama.cpp", "llama-bench", llama_bench, tools.llama_bench, path)
    if tools.service:
        part("worker", "worker over HTTP", gpu_service.worker_rows, path)
    if tools.llama_server:
        context = min(longest, 4352)
        part("llama.cpp", "llama-server", gpu_service.llama_rows, tools.llama_server, path, context)
    return {"shape": name, **result, **rows, "failed": failed}


@dataclass(frozen=True, slots=True)
class Tools:
    """llama.cpp's programs, built for this device, or None; and whether the worker's HTTP side is measured."""

    llama_bench: str | None = None
    llama_server: str | None = None
    service: bool = True


def main(output: Path, *, tools: Tools | None = None, models: Path | None = None, shapes: Sequence[str] = ()) -> int:
    """Measure all shapes; print the table, write it to ``output`` as gpu.md, gpu.json and gpu.png.

    Returns 1 if a part of a shape failed, which the table then says.
    """
    tools = tools or Tools(os.environ.get("LLAMA_BENCH"), os.environ.get("LLAMA_SERVER"))
    with tempfile.TemporaryDirectory() as scratch:
        report: dict[str, Any] = {
            "machine": gpu_report.machine(),
            "llama_bench": bool(tools.llama_bench),
            "llama_server": bool(tools.llama_server),
            "copy_bytes_per_s": alone(copy_bandwidth),
            "results": [],
        }
        for name in shapes or bulk.BENCHMARKS:
            report["results"].append(measure(name, models or Path(scratch), tools))
            gpu_report.write(report, output)  # what is measured is kept if a later shape fails
    return int(any(result["failed"] for result in report["results"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--llama-bench", default=os.environ.get("LLAMA_BENCH"), help="built for this device")
    parser.add_argument("--llama-server", default=os.environ.get("LLAMA_SERVER"), help="built for this device")
    parser.add_argument("--models", type=Path, help="folder for the models, kept")
    parser.add_argument("--output", type=Path, default=Path("reports/bench"), help="(default: %(default)s)")
    parser.add_argument("--only-engine", action="store_true", help="leave the HTTP side out")
    parser.add_argument("shape", nargs="*", help="or a .gguf file (default: all three shapes)")
    options = parser.parse_args()
    chosen = Tools(options.llama_bench, options.llama_server, service=not options.only_engine)
    raise SystemExit(main(options.output, tools=chosen, models=options.models, shapes=options.shape))

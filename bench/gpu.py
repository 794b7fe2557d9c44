"""The CUDA engine on the three real shapes, beside llama.cpp's llama-bench where one is given.

`python -m bench.gpu [--llama-bench PATH] [--models DIR] [--json FILE]` on a machine with an NVIDIA device. Models are
made by code (`models.bulk`). Speeds are tokens a second of one sequence; "GB/s" is weights read a token times tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import bulk
from worker.devices import open_device
from worker.devices.cuda.device import describe
from worker.engine import load_model
from worker.gguf import GgufFile
from worker.sampling import SamplingParams

if TYPE_CHECKING:
    from worker.engine import Model

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
    import cupy  # noqa: PLC0415 - only where there is a device

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


def decode_speed(model: Model, context: int, n_ctx: int) -> float:
    """Tokens a second, each collected on the host before the next but one is launched, after ``context`` tokens."""
    rng = np.random.default_rng(context)
    context = min(context, n_ctx - STEPS - 8)
    job = model.open(context + STEPS + 8, GREEDY, seed=0)
    drain(job.prefill(rng.integers(0, model.n_vocab, max(context, 1)).tolist()))
    drain(job.collect())
    for _ in range(4):
        job.launch()
        drain(job.collect())
    start = time.perf_counter()
    for _ in range(STEPS):
        job.launch()
        drain(job.collect())
    seconds = time.perf_counter() - start
    job.close()
    return STEPS / seconds


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


def measure(name: str, folder: Path, binary: str | None) -> dict[str, Any]:
    """All rows of one shape."""
    shape, quant = bulk.BENCHMARKS[name]
    path = folder / f"{name}.gguf"
    if not path.exists():
        bulk.write(path, shape, quant, name=name)
    start = time.perf_counter()
    device: Any = open_device("cuda")
    n_ctx = min(shape.context, 4352)
    model = load_model(GgufFile.open(path), device, n_ctx=n_ctx)
    device.stream.synchronize()
    rows: dict[str, float] = {"load s": time.perf_counter() - start}
    for context in CONTEXTS:
        rows[f"decode@{context}"] = decode_speed(model, context, n_ctx)
    for n in PROMPTS:
        rows[f"prefill {n}"] = prefill_speed(model, n)
    memory = model.memory
    result = {
        "shape": name,
        "file_bytes": path.stat().st_size,
        "weights_bytes": memory.weights,
        "intermediates_bytes": memory.intermediates,
        "worker": rows,
        "llama.cpp": None,
        "device": describe(device),
    }
    device.close()
    if binary:
        result["llama.cpp"] = llama_bench(binary, path)
    return result


def table(results: list[dict[str, Any]], bandwidth: float) -> str:
    """Markdown."""
    lines = ["| shape | what | worker | llama.cpp | ratio |", "|---|---|---|---|---|"]
    for result in results:
        other = result["llama.cpp"] or {}
        for what, value in result["worker"].items():
            theirs = other.get(what)
            ratio = f"{value / theirs:.2f}" if theirs else ""
            lines.append(
                f"| {result['shape']} | {what} | {value:,.1f} | {f'{theirs:,.1f}' if theirs else ''} | {ratio} |"
            )
    lines.append("")
    lines.append(f"Copy bandwidth measured in the same run: {bandwidth / 1e12:.2f} TB/s (read plus written).")
    return "\n".join(lines)


def main(output: Path | None = None, *, binary: str | None = None, models: Path | None = None) -> int:
    """Measure all shapes, print the table, write all figures to ``output``."""
    binary = binary or os.environ.get("LLAMA_BENCH")
    with tempfile.TemporaryDirectory() as scratch:
        folder = models or Path(scratch)
        bandwidth = copy_bandwidth()
        results = [measure(name, folder, binary) for name in bulk.BENCHMARKS]
    if output:
        output.write_text(json.dumps({"copy_bytes_per_s": bandwidth, "results": results}, indent=1) + "\n")
    print(table(results, bandwidth))  # noqa: T201 - the command's output
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--llama-bench", help="llama.cpp's llama-bench, built for this device")
    parser.add_argument("--models", type=Path, help="folder for the models, kept")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    raise SystemExit(main(options.json, binary=options.llama_bench, models=options.models))

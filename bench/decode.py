"""Decode speed on the Qwen2.5-0.5B shape (Q4_K_M, made by code): the CPU worker beside llama.cpp, same file."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_models import bulk
from m0_parity.llamacpp.engine import Context, Settings
from m0_parity.llamacpp.engine import Model as Reference
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = 16
"""Tokens of context before the first measured step."""
THREADS = 2


def ours(path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """A function that decodes one greedy token with the worker's engine, and one that frees it."""
    gguf = GgufFile.open(path)
    device = open_device("cpu", 0)
    job = load_model(gguf, device, n_ctx=2048).open(2048, SamplingParams(temperature=0.0), seed=0)
    for _ in job.prefill(list(range(1, PROMPT + 1))):
        pass
    for _ in job.collect():
        pass

    def step() -> None:
        job.launch()
        for _ in job.collect():
            pass

    def close() -> None:
        job.close()
        device.close()
        gguf.close()

    return step, close


def theirs(path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same with llama.cpp as its users run it: repacked weights, flash attention, FP16 KV cache."""
    model = Reference(path, repack=True)
    context = Context(model, 2048, Settings(flash_attention=True, kv="f16", repack=True, threads=THREADS))
    token = [int(context.decode(list(range(1, PROMPT + 1)), every=False)[-1].argmax())]

    def step() -> None:
        token[0] = int(context.decode(token)[-1].argmax())

    def close() -> None:
        context.close()
        model.close()

    return step, close


def measure(rounds: int = 5, steps: int = 8) -> list[dict[str, Any]]:
    """Tokens a second of both, in alternating rounds so that a noisy neighbour hits both; medians and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        shape, quant = bulk.BENCHMARKS["qwen2.5-0.5b"]
        path = bulk.write(Path(folder) / "qwen2.gguf", shape, quant, name="Qwen2.5-0.5B shape")
        engines = {"worker (NumPy)": ours(path), "llama.cpp": theirs(path)}
        rates: dict[str, list[float]] = {name: [] for name in engines}
        for name, (step, _) in engines.items():
            step()
            print(f"decode: {name} is warm", flush=True)  # noqa: T201 - progress of a command
        for _ in range(rounds):
            for name, (step, _) in engines.items():
                begun = time.perf_counter()
                for _ in range(steps):
                    step()
                rates[name].append(steps / (time.perf_counter() - begun))
        for _, close in engines.values():
            close()
        size = path.stat().st_size
    reference = statistics.median(rates["llama.cpp"])
    return [
        {
            "measurement": "decode, Qwen2.5-0.5B shape, Q4_K_M, 2 threads",
            "engine": name,
            "tokens_per_s": round(statistics.median(values), 2),
            "low": round(min(values), 2),
            "high": round(max(values), 2),
            "ratio_to_llama.cpp": round(statistics.median(values) / reference, 3),
            "file_mib": round(size / 2**20),
        }
        for name, values in rates.items()
    ]

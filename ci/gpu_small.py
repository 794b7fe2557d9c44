"""Small jobs on every architecture: what compute-sanitizer watches, and what must not leak over a thousand jobs."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from m0_models import miniatures
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

SMALL = ["llama-q4_k_m", "qwen2-q4_0", "phi3-q6_k", "gpt2-q8_0", "gpt-oss-mxfp4"]


def drain(generator: Any) -> Any:
    """The return value of a generator run to its end."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def job(model: Any, n: int, sampling: SamplingParams) -> None:
    """A prompt of n tokens, three steps."""
    decoding = model.open(n + 8, sampling, seed=n)
    drain(decoding.prefill([(7 * i + n) % model.n_vocab for i in range(n)]))
    drain(decoding.collect())
    for _ in range(3):
        decoding.launch()
        drain(decoding.collect())
    decoding.close()


def used_by_nvml() -> int:
    """Device memory in use, seen from outside."""
    import pynvml  # noqa: PLC0415 - only the leak check needs it

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=0, help="leak check over so many jobs")
    options = parser.parse_args()
    greedy, chain = (
        SamplingParams(temperature=0.0),
        SamplingParams(0.9, top_k=40, top_p=0.9, repetition_penalty=1.2),
    )
    recipes = {recipe.name: recipe for recipe in miniatures.zoo()}
    with tempfile.TemporaryDirectory() as folder:
        for name in SMALL[:1] if options.jobs else SMALL:
            device: Any = open_device("cuda")
            model = load_model(GgufFile.open(recipes[name].write(Path(folder) / f"{name}.gguf")), device)
            # Of the first model, prompts with a whole chunk: one enqueued, one captured into a graph, one replayed.
            long = [(900 if options.jobs else 520, greedy)] * 3 if name == SMALL[0] else []
            for n, sampling in ((2, greedy), (70, greedy), (9, chain), *long):
                job(model, n, sampling)
            before, outside = model.memory, used_by_nvml() if options.jobs else 0
            for i in range(options.jobs):
                job(model, 1 + i * 37 % 900, chain if i % 3 else greedy)
            if options.jobs:
                grown = used_by_nvml() - outside
                print(
                    f"{options.jobs} jobs: accounting before {before}, after {model.memory}; NVML grew by {grown} bytes"
                )
                if model.memory != before or grown > 1 << 20:
                    return 1
            device.close()
            print(name, "ok", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

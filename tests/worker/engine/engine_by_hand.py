"""Helpers of the engine's tests: load a model, run a job by hand, compare vectors, see checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from m0_worker.devices.cpu import CpuDevice
from m0_worker.engine import Decoding, Model, load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

GREEDY = SamplingParams(temperature=0.0)


def drain(steps: Iterable[None]) -> Any:
    """Run a generator to its end and return its value."""
    generator = cast("Generator[None, None, Any]", iter(steps))
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def next_token(job: Decoding) -> int:
    job.launch()
    return int(drain(job.collect()))


def generate(
    model: Model, prompt: Sequence[int], n: int, *, seed: int = 0, sampling: SamplingParams = GREEDY
) -> list[int]:
    job = model.open(len(prompt) + n, sampling, seed=seed)
    drain(job.prefill(prompt))
    tokens = [drain(job.collect())]
    while len(tokens) < n:
        tokens.append(next_token(job))
    job.close()
    return tokens


def nmse(reference: np.ndarray, value: np.ndarray) -> float:
    wide = reference.astype(np.float64)
    return float(((wide - value) ** 2).sum() / (wide**2).sum())


@dataclass
class Seen:
    """A tap that keeps everything under (name, layer), in order of occurrence."""

    names: frozenset[str] | None = None
    all_rows: bool = True
    values: dict[tuple[str, int], list[np.ndarray]] = field(default_factory=dict)
    passes: list[tuple[list[int], int]] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        return self.names is None or name in self.names

    def begin(self, tokens: Sequence[int], position: int) -> None:
        self.passes.append((list(tokens), position))

    def __call__(self, name: str, layer: int, array: np.ndarray) -> None:
        self.values.setdefault((name, layer), []).append(array.copy())

    def joined(self, name: str, layer: int = -1) -> np.ndarray:
        return np.concatenate(self.values[name, layer])


def load(path: Path, **options: Any) -> Model:
    device = CpuDevice(**{k: options.pop(k) for k in ("memory_limit", "dense_budget", "threads") if k in options})
    return load_model(GgufFile.open(path), device, **options)

"""The CPU worker's engine beside llama.cpp's on a real file: decode and prompts, with as many threads, in turns.

llama.cpp runs as its users run it: repacked weights, flash attention, FP16 KV cache. Both engines take turns round by
round, so that a noisy neighbour hits both; a ratio is that of two neighbours in time.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from m0_parity.llamacpp.engine import Context, Settings
from m0_parity.llamacpp.engine import Model as Reference
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = 256
"""Tokens of the prompt, and of context before the first decode step."""
STEPS = 24
"""Decode steps of a round."""
ROUNDS = 7
_TOKENS = tuple(range(100, 100 + PROMPT))
_CONTEXT = 1024


class Side(Protocol):
    """One engine with the file loaded."""

    def prompt(self) -> None:
        """Run the prompt on an empty cache."""
        ...

    def step(self) -> None:
        """Decode one greedy token."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Ours:
    """The worker's engine."""

    def __init__(self, path: Path, threads: int) -> None:
        self._gguf = GgufFile.open(path)
        self._device = open_device("cpu", threads=threads)
        self._model = load_model(self._gguf, self._device)
        if self._device.note is not None:
            raise RuntimeError(self._device.note)
        self._job = self._model.open(_CONTEXT, SamplingParams(temperature=0.0), seed=0)

    def prompt(self) -> None:
        """See the protocol."""
        self._job.close()
        self._job = self._model.open(_CONTEXT, SamplingParams(temperature=0.0), seed=0)
        for _ in self._job.prefill(_TOKENS):
            pass
        for _ in self._job.collect():
            pass

    def step(self) -> None:
        """See the protocol."""
        self._job.launch()
        for _ in self._job.collect():
            pass

    def close(self) -> None:
        """See the protocol."""
        self._job.close()
        self._device.close()
        self._gguf.close()


class Theirs:
    """llama.cpp."""

    def __init__(self, path: Path, threads: int) -> None:
        self._model = Reference(path, repack=True)
        settings = Settings(flash_attention=True, kv="f16", repack=True, threads=threads)
        self._context = Context(self._model, _CONTEXT, settings)
        self._token = 0

    def prompt(self) -> None:
        """See the protocol."""
        self._context.reset()
        self._token = int(self._context.decode(_TOKENS, every=False)[-1].argmax())

    def step(self) -> None:
        """See the protocol."""
        self._token = int(self._context.decode([self._token])[-1].argmax())

    def close(self) -> None:
        """See the protocol."""
        self._context.close()
        self._model.close()


@dataclass(slots=True)
class Row:
    """One measurement of both engines, tokens a second, a value a round; the same place is the same round."""

    measurement: str
    threads: int
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, round by round."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    def cells(self) -> list[str]:
        """The row of a table: medians with lowest and highest."""

        def spread(values: list[float], digits: int) -> str:
            middle, low, high = statistics.median(values), min(values), max(values)
            return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

        return [
            self.measurement,
            str(self.threads),
            spread(self.ours, 1),
            spread(self.theirs, 1),
            spread(self.ratios, 2),
        ]


HEAD = ["measurement", "threads", "worker, tokens/s", "llama.cpp, tokens/s", "ratio, by round"]


def measure(path: Path, rounds: int = ROUNDS) -> list[Row]:
    """Both engines on a file, with one thread and with as many as there are cores, at most two."""
    rows = []
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        prompts, decodes = Row(f"prompt of {PROMPT} tokens", threads), Row("decode behind it", threads)
        sides: list[tuple[Side, list[float], list[float]]] = [
            (Ours(path, threads), prompts.ours, decodes.ours),
            (Theirs(path, threads), prompts.theirs, decodes.theirs),
        ]
        try:
            for side, _, _ in sides:  # warm: the file's pages, the threads
                side.prompt()
                side.step()
            for i in range(rounds):
                for side, prompt, decode in sides if i % 2 else sides[::-1]:
                    begun = time.perf_counter()
                    side.prompt()
                    half = time.perf_counter()
                    for _ in range(STEPS):
                        side.step()
                    prompt.append(PROMPT / (half - begun))
                    decode.append(STEPS / (time.perf_counter() - half))
                print(f"engines: {threads} threads, round {i + 1} of {rounds}", flush=True)  # noqa: T201 - progress
        finally:
            for side, _, _ in sides:
                side.close()
        rows += [prompts, decodes]
    return rows

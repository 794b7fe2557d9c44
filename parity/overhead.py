"""What recording costs: the same decode with and without a recorder, in pairs, so that drift hits both alike.

Measured in processor time of this process, which other processes disturb least. The recorder keeps the logits of each
token, its default; writing the lines happens after the job and is timed apart.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from worker.checkpoints import JobRecorder, Recorder, Settings
from worker.devices import open_device
from worker.engine import Model, load_model
from worker.gguf import GgufFile
from worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUND: Final = 0.01
_GREEDY: Final = SamplingParams(temperature=0.0)
_PROMPT: Final = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Relative cost of recording by pair, and seconds for writing one job's lines."""

    ratios: Sequence[float]
    token_seconds: float
    write_seconds: float
    tokens: int
    tap_seconds: float
    """Spent inside the recorder for one token, timed by itself."""

    @property
    def median(self) -> float:
        """The median pair; 0.01 is one percent."""
        return float(np.median(self.ratios))

    def interval(self) -> tuple[float, float]:
        """A distribution-free 95 % interval of the median, from order statistics."""
        ordered = np.sort(self.ratios)
        n = len(ordered)
        half = 0.98 * np.sqrt(n)
        low, high = int(max(0, np.floor(n / 2 - half))), int(min(n - 1, np.ceil(n / 2 + half)))
        return float(ordered[low]), float(ordered[high])


def measure(path: Path, *, pairs: int = 40, tokens: int = 64) -> Overhead:
    """Decode ``tokens`` tokens ``pairs`` times with and as often without recording, in turns of changing order."""
    gguf = GgufFile.open(path)
    model = load_model(gguf, open_device("cpu"), n_ctx=len(_PROMPT) + tokens + 1)
    ratios, plain_total, write_total = [], 0.0, 0.0
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        settings = Settings(Path(folder) / "orch.jsonl")
        recorder = Recorder(settings, model=path.name)
        _decode(model, tokens, None)  # warm
        for number in range(pairs):
            tap = recorder.job(f"job-{number}")
            if number % 2:
                recorded, plain = _decode(model, tokens, tap), _decode(model, tokens, None)
            else:
                plain, recorded = _decode(model, tokens, None), _decode(model, tokens, tap)
            ratios.append(recorded / plain - 1)
            plain_total += plain
            start = time.process_time()
            tap.close()
            write_total += time.process_time() - start
    gguf.close()
    return Overhead(
        ratios, plain_total / pairs / tokens, write_total / pairs, tokens, _tap_seconds(path, model.n_vocab)
    )


def _tap_seconds(path: Path, vocabulary: int, count: int = 2000) -> float:
    """The recorder's own time for one token: a pass begun and its logits copied."""
    logits = np.zeros((1, vocabulary), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        best = float("inf")
        for _ in range(5):
            tap = Recorder(Settings(Path(folder) / "orch.jsonl"), model=path.name).job("job")
            size = min(count, (8 << 20) // logits.nbytes + 1)  # far below what makes it write in between
            start = time.process_time()
            for position in range(size):
                tap.begin([1], position)
                tap("result_output", -1, logits)
            best = min(best, (time.process_time() - start) / size)
    return best


def _decode(model: Model, tokens: int, tap: JobRecorder | None) -> float:
    """Processor seconds of ``tokens`` decode steps, prompt not counted."""
    with closing(model.open(len(_PROMPT) + tokens + 1, _GREEDY, seed=0, tap=tap)) as job:
        for _ in job.prefill(_PROMPT):
            pass
        start = time.process_time()
        for _ in range(tokens):
            job.launch()
            for _ in job.collect():
                pass
        return time.process_time() - start

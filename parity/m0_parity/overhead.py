"""What recording costs: a decode with a recorder beside one without, a step of each in turn, so that drift hits both.

The recorder keeps the logits of each token, its default. Lines are made after the job and timed apart. Times are
processor time of this thread, which computes, copies and writes: what other processes do disturbs it least.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from m0_models import bulk
from m0_models.shapes import QWEN2_5_0_5B, Shape
from m0_worker.checkpoints import HELD_BYTES, JobRecorder, Recorder, Settings
from m0_worker.devices import open_device
from m0_worker.engine import Model, load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.generation import Decoding
    from numpy.typing import NDArray

BOUND: Final = 0.01
TOKENS: Final = 64
_GREEDY: Final = SamplingParams(temperature=0.0)
_PROMPT: Final = (1, 2, 3, 4)
_REPORT_EVERY: Final = 5.0
_ENOUGH: Final = 256

MODELS: Final[dict[str, Shape]] = {
    "llama of 135M, 6 of its 30 layers, vocabulary of 49,152": Shape(
        "llama", width=576, heads=9, kv_heads=3, feed_forward=1536, vocabulary=49152, tied=True, layers=6
    ),
    "Qwen2.5-0.5B, 4 of its 24 layers, vocabulary of 151,936": replace(QWEN2_5_0_5B, layers=4),
}
"""Real widths and vocabularies, in F32, the fastest on a CPU, and with few layers: a real step takes longer."""


@dataclass(slots=True)
class Overhead:
    """What was measured; ratios are recorded step / plain step - 1, so 0.01 is one percent."""

    ratios: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    """Seconds of the steps without a recorder."""
    inside: list[float] = field(default_factory=list)
    """Seconds that single steps spent in the recorder."""
    lines: list[float] = field(default_factory=list)
    """Seconds for a line, job by job."""
    held: int = 0
    """Tokens of a job before lines must be made while it runs."""

    @property
    def typical(self) -> float:
        """The mean of the middle half of the pairs: as robust as the median here, and surer."""
        return float(self._middle().mean())

    def interval(self) -> tuple[float, float]:
        """A 95 % interval of it, from the variance winsorized likewise (Tukey and McLaughlin, 1963)."""
        n, cut = len(self.ratios), len(self.ratios) // 4
        middle = self._middle()
        spread = np.clip(self.ratios, middle[0], middle[-1]).std(ddof=1) if n > 1 else np.inf
        half = 1.96 * float(spread) / (1 - 2 * cut / n) / np.sqrt(n)
        return self.typical - half, self.typical + half

    def _middle(self) -> NDArray[np.float64]:
        cut = len(self.ratios) // 4
        return np.sort(self.ratios)[cut : len(self.ratios) - cut]

    def verdict(self, bound: float) -> bool | None:
        """Whether recording costs no more than ``bound``; None where the pairs scatter too much to tell."""
        low, high = self.interval()
        return True if high <= bound else False if low > bound else None

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.typical:+.2%} (95 %: {low:+.2%} to {high:+.2%}, {len(self.ratios)} pairs)"

    def apart(self) -> str:
        """The parts, timed by themselves."""
        step, inside, line = (float(np.median(times)) for times in (self.plain, self.inside, self.lines))
        return (
            f"a step takes {step * 1e3:.2f} ms, the recorder's copy {inside * 1e6:.0f} µs ({inside / step:.2%}); "
            f"a line {line * 1e3:.2f} ms, after the job, or while it runs from token {self.held + 1} on "
            f"({(inside + line) / step:.1%})"
        )


def write_model(shape: Shape, path: Path) -> Path:
    """Write one of MODELS."""
    return bulk.write(path, shape, "F32")


def measure(
    path: Path,
    *,
    seconds: float,
    bound: float = BOUND,
    tokens: int = TOKENS,
    progress: Callable[[str], None] = lambda _: None,
) -> Overhead:
    """Decode with and without recording, a step of each in turn, first one and then the other first.

    Ends after ``seconds``, or earlier when some hundred pairs leave no doubt on which side of ``bound`` they are.
    """
    found = Overhead()
    gguf = GgufFile.open(path)
    model = load_model(gguf, open_device("cpu"), n_ctx=len(_PROMPT) + tokens + 1)
    found.held = HELD_BYTES // (4 * model.n_vocab)
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        recorder = Recorder(Settings(Path(folder) / "orch.jsonl"), model=path.name)
        end = time.perf_counter() + seconds
        told = time.perf_counter() + _REPORT_EVERY
        _job(model, recorder.job("warm"), 2, Overhead(), end)
        while not found.ratios or time.perf_counter() < end:
            tap = recorder.job(f"job-{len(found.lines)}")
            _job(model, tap, tokens, found, end)
            if len(found.ratios) >= _ENOUGH and found.verdict(bound) is not None:
                break
            if time.perf_counter() > told:
                progress(str(found))
                told = time.perf_counter() + _REPORT_EVERY
    gguf.close()
    return found


class _Timed:
    """A recorder that takes the time of each checkpoint."""

    all_rows = False

    def __init__(self, tap: JobRecorder) -> None:
        self._tap = tap
        self.wants, self.begin = tap.wants, tap.begin
        self.seconds: list[float] = []

    def __call__(self, name: str, layer: int, array: NDArray[Any]) -> None:
        start = time.thread_time()
        self._tap(name, layer, array)
        self.seconds.append(time.thread_time() - start)


def _job(model: Model, tap: JobRecorder, tokens: int, found: Overhead, end: float) -> None:
    timed = _Timed(tap)
    size = len(_PROMPT) + tokens + 1
    with (
        closing(model.open(size, _GREEDY, seed=0)) as plain,
        closing(model.open(size, _GREEDY, seed=0, tap=timed)) as recorded,
    ):
        for job in (plain, recorded):
            for _ in job.prefill(_PROMPT):
                pass
            for _ in job.collect():
                pass
        for number in range(tokens):
            if number and time.perf_counter() > end:
                break
            if number % 2:
                with_tap, without = _step(recorded), _step(plain)
            else:
                without, with_tap = _step(plain), _step(recorded)
            found.ratios.append(with_tap / without - 1)
            found.plain.append(without)
    found.inside += timed.seconds[1:]  # the first is the prompt's
    start = time.thread_time()
    tap.close()
    found.lines.append((time.thread_time() - start) / len(timed.seconds))


def _step(job: Decoding) -> float:
    start = time.thread_time()
    job.launch()
    for _ in job.collect():
        pass
    return time.thread_time() - start

"""T7: the worker's sampling chain against llama.cpp's on the same logits: survivors, probabilities, drawn tokens.

Both chains are put in the order of M0-W-1421 (temperature, penalty, top-k, top-p, min-p). llama.cpp draws with its own
random numbers, a Mersenne Twister's; they are repeated here and applied to the worker's probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_worker.sampling import SamplingParams, distribution

from m0_parity.llamacpp import Chain
from m0_parity.rungs.base import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

BOUND: Final = 1e-5
"""llama.cpp's own bound on a probability (test-sampling)."""
_VOCABULARY: Final = 1000
_DRAWS: Final = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A chain to try, with some tokens already said."""

    label: str
    params: SamplingParams
    history: tuple[int, ...] = ()

    def filters(self, seed: int) -> list[tuple[str, *tuple[float | int, ...]]]:
        """The same chain for llama.cpp."""
        p = self.params
        chain: list[tuple[str, *tuple[float | int, ...]]] = [("temp", p.temperature)]
        if p.repetition_penalty != 1.0:
            chain.append(("penalties", _VOCABULARY, 64, p.repetition_penalty, 0.0, 0.0))
        if p.top_k:
            chain.append(("top_k", p.top_k))
        if p.top_p < 1:
            chain.append(("top_p", p.top_p))
        if p.min_p > 0:
            chain.append(("min_p", p.min_p))
        return [*chain, ("dist", seed)]


CASES: Final = (
    Case("temperature 1", SamplingParams()),
    Case("temperature 0.7", SamplingParams(temperature=0.7)),
    Case("temperature 2", SamplingParams(temperature=2.0)),
    Case("top-k 40", SamplingParams(top_k=40)),
    Case("top-p 0.9", SamplingParams(top_p=0.9)),
    Case("min-p 0.05", SamplingParams(min_p=0.05)),
    Case("penalty 1.3", SamplingParams(repetition_penalty=1.3), (1, 5, 9, 9, 400)),
    Case("penalty 0.8", SamplingParams(repetition_penalty=0.8), (3, 7)),
    Case(
        "all of them",
        SamplingParams(temperature=0.8, top_k=60, top_p=0.95, min_p=0.02, repetition_penalty=1.1),
        (2, 4, 8, 16),
    ),
)


def mersenne_uniform(seed: int) -> float:
    """The first double that llama.cpp's dist sampler draws: two 32-bit words of mt19937, low word first."""
    generator = np.random.MT19937()
    generator._legacy_seeding(seed)  # noqa: SLF001  # the only way to std::mt19937's seeding
    low, high = (int(word) for word in generator.random_raw(2))
    return (low + high * 2.0**32) / 2.0**64


def rung(count: int = 8) -> Iterator[Row]:
    """One row per chain; measured is the largest difference of a probability, or infinity for other survivors."""
    for case in CASES:
        worst, equal, total, problem = 0.0, 0, 0, ""
        for number in range(count):
            logits = (np.random.default_rng(number).standard_normal(_VOCABULARY) * 3).astype(np.float32)
            ids, probabilities = distribution(logits, case.params, set(case.history))
            ours = dict(zip(ids.tolist(), probabilities.tolist(), strict=True))
            for seed in range(_DRAWS):
                with Chain(*case.filters(seed)) as chain:
                    chain.accept(case.history)
                    order, theirs, drawn = chain.apply(logits)
                if set(order) != set(ours):
                    worst, problem = float("inf"), f"{len(order)} survivors in llama.cpp, {len(ours)} here"
                    break
                worst = max(worst, *(abs(ours[i] - p) for i, p in zip(order, theirs, strict=True)))
                total += 1
                equal += drawn == _draw(order, ours, mersenne_uniform(seed))
        if equal != total:
            worst, problem = float("inf"), f"only {equal} of {total} drawn tokens equal"
        yield Row("T7", case.label, worst, BOUND, problem or f"{total} draws, all equal")


def _draw(order: list[int], law: dict[int, float], u: float) -> int:
    """The first candidate, in llama.cpp's order, whose cumulative probability reaches u."""
    cumulative: npt.NDArray[np.float64] = np.cumsum([law[i] for i in order])
    return order[int(np.argmax(cumulative >= u * cumulative[-1]))]

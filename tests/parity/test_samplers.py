"""T7: the worker's sampling beside llama.cpp's own sampler chain: survivors, probabilities, drawn tokens.

llama.cpp's filters are put in the order of M0-W-1421. Its random numbers are drawn again here (std::mt19937), so that
the worker's `pick` gets the same u; candidates are handed to it in llama.cpp's order, which its filters sort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_worker.sampling import SamplingParams, distribution, pick

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

pytest.importorskip("xllamacpp", reason="the reference is an optional package")
from m0_parity.llamacpp import Chain

VOCABULARY = 600
CLOSE = 1e-5
"""llama.cpp's own bound on a probability."""
NEVER = 1e-30
"""Below this float32 probabilities lose their digits; nobody ever draws there."""
HISTORY = (3, 5, 5, 41, 222, 599)

SETTINGS = {
    "plain": SamplingParams(),
    "cold": SamplingParams(temperature=0.3),
    "hot": SamplingParams(temperature=1.9),
    "temperature 0": SamplingParams(temperature=0.0),
    "top-k 2": SamplingParams(top_k=2),
    "top-k 40": SamplingParams(top_k=40),
    "top-k above the vocabulary": SamplingParams(top_k=5000),
    "top-p 0.1": SamplingParams(top_p=0.1),
    "top-p 0.9": SamplingParams(top_p=0.9),
    "top-p 0.999": SamplingParams(top_p=0.999),
    "top-p that keeps one": SamplingParams(top_p=1e-6),
    "min-p 0.01": SamplingParams(min_p=0.01),
    "min-p 0.5": SamplingParams(min_p=0.5),
    "penalty 1.3": SamplingParams(repetition_penalty=1.3),
    "penalty 0.7": SamplingParams(repetition_penalty=0.7),
    "penalty after temperature": SamplingParams(temperature=0.5, repetition_penalty=1.8),
    "top-k before top-p": SamplingParams(top_k=20, top_p=0.8),
    "top-p before min-p": SamplingParams(top_p=0.95, min_p=0.1),
    "all": SamplingParams(temperature=0.8, top_k=50, top_p=0.95, min_p=0.03, repetition_penalty=1.15),
    "all, hot": SamplingParams(temperature=1.6, top_k=200, top_p=0.7, min_p=0.01, repetition_penalty=1.5),
}
LOGITS = {
    "trained": lambda rng: rng.standard_normal(VOCABULARY) * 3,
    "flat": lambda rng: rng.standard_normal(VOCABULARY) * 0.05,
    "peaked": lambda rng: rng.standard_normal(VOCABULARY) * 12,
    "all negative": lambda rng: rng.standard_normal(VOCABULARY) - 40,
}


def filters(p: SamplingParams, seed: int) -> list[tuple[str, *tuple[float | int, ...]]]:
    chain: list[tuple[str, *tuple[float | int, ...]]] = [("temp", p.temperature)]
    if p.repetition_penalty != 1.0:
        chain.append(("penalties", VOCABULARY, 64, p.repetition_penalty, 0.0, 0.0))
    if p.top_k:
        chain.append(("top_k", p.top_k))
    if p.top_p < 1:
        chain.append(("top_p", p.top_p))
    if p.min_p:
        chain.append(("min_p", p.min_p))
    return [*chain, ("dist", seed)]


def uniforms(seed: int, count: int) -> list[float]:
    """libstdc++'s generate_canonical<double, 53> over mt19937: two words a number, the low one first."""
    words = np.random.RandomState(seed).randint(0, 2**32, size=(count, 2), dtype=np.uint64)
    return [(int(low) + int(high) * 2.0**32) / 2.0**64 for low, high in words]


def step(
    chain: Chain, logits: npt.NDArray[np.float32], params: SamplingParams, history: Collection[int], u: float
) -> tuple[int, int | None]:
    """Both laws agree; returns the worker's and llama.cpp's draw."""
    ids, probabilities = distribution(logits, params, history)
    ours = dict(zip(ids.tolist(), probabilities.tolist(), strict=True))
    order, theirs, drawn = chain.apply(logits)
    reference = {i: p for i, p in zip(order, theirs, strict=True) if p > NEVER}  # temperature 0 leaves zeros
    possible = {i: p for i, p in ours.items() if p > NEVER}
    assert reference.keys() == possible.keys()
    assert max(abs(ours[i] - p) for i, p in reference.items()) < CLOSE
    kept = np.array([i for i in order if i in possible])
    return pick(kept, np.array([ours[i] for i in kept.tolist()]), u), drawn


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("name", SETTINGS)
def test_one_step(name: str, kind: str) -> None:
    params = SETTINGS[name]
    for seed in range(4):
        logits = LOGITS[kind](np.random.default_rng(seed)).astype(np.float32)
        with Chain(*filters(params, seed)) as chain:
            chain.accept(HISTORY)
            ours, theirs = step(chain, logits, params, set(HISTORY), uniforms(seed, 1)[0])
        assert ours == theirs


@pytest.mark.parametrize("name", ["plain", "top-k 40", "penalty 1.3", "all"])
def test_a_seeded_sequence_with_its_growing_history(name: str) -> None:
    params, seed, said = SETTINGS[name], 1234, list[int]()
    rng = np.random.default_rng(9)
    base = rng.standard_normal(VOCABULARY) * 3
    with Chain(*filters(params, seed)) as chain:
        for u in uniforms(seed, 40):
            logits = (base + rng.standard_normal(VOCABULARY)).astype(np.float32)
            ours, theirs = step(chain, logits, params, set(said), u)
            assert ours == theirs
            said.append(ours)
            chain.accept([ours])


def test_another_order_is_another_law() -> None:
    # the comparison would see it: llama.cpp's own default puts the temperature last
    params = SamplingParams(temperature=1.9, min_p=0.1)
    logits = LOGITS["trained"](np.random.default_rng(0)).astype(np.float32)
    with Chain(("min_p", 0.1), ("temp", 1.9), ("dist", 0)) as chain, pytest.raises(AssertionError):
        step(chain, logits, params, set(), 0.5)

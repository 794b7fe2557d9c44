from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from m0_worker.sampling import NonFiniteLogitsError, Sampler, SamplingParams, distribution, mix64, pick, uniform

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    top_k=st.integers(0, 50),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0, 2),
)


def by_the_book(logits: list[float], params: SamplingParams, history: set[int]) -> dict[int, float]:
    """M0-W-1421 in plain Python, one token at a time."""
    scores = dict(enumerate(logits))
    if params.temperature not in {0.0, 1.0}:
        scores = {token: score / max(params.temperature, 1e-30) for token, score in scores.items()}
    penalty = max(params.repetition_penalty, 1e-6)
    scores = {
        token: score if token not in history else score / penalty if score > 0 else score * penalty
        for token, score in scores.items()
    }
    ranked = sorted(scores, key=lambda token: (-scores[token], token))
    if params.greedy:
        return {ranked[0]: 1.0}
    if params.top_k:
        ranked = ranked[: params.top_k]
    top = scores[ranked[0]]
    probs = {token: math.exp(scores[token] - top) for token in ranked}
    total = sum(probs.values())
    probs = {token: p / total for token, p in probs.items()}
    if params.top_p < 1.0:
        kept, reached = [], 0.0
        for token in ranked:
            kept.append(token)
            reached += probs[token]
            if reached >= params.top_p:
                break
        probs = {token: probs[token] for token in kept}
    if params.min_p > 0.0:
        least = params.min_p * max(probs.values())
        probs = {token: p for token, p in probs.items() if p >= least}
    total = sum(probs.values())
    return {token: p / total for token, p in probs.items() if p > 0.0}


@given(LOGITS, PARAMS, st.sets(st.integers(0, 1), max_size=2))
def test_the_chain_is_the_one_of_the_book(logits: list[float], params: SamplingParams, history: set[int]) -> None:
    array = np.array(logits, np.float64)
    ids, probs = distribution(array, params, history)
    expected = by_the_book(logits, params, history)
    got = dict(zip(ids.tolist(), probs.tolist(), strict=True))
    assert list(ids) == sorted(ids)
    # A cumulative sum that meets top_p exactly may fall on either side by rounding: at most the last token differs.
    boundary = {
        token for token in got.keys() ^ expected.keys() if max(got.get(token, 0), expected.get(token, 0)) > 1e-9
    }
    if params.top_p == 1.0 or params.greedy:
        assert not boundary
    assert len(boundary) <= 1
    if not boundary:
        assert all(got[token] == pytest.approx(expected[token], rel=1e-9, abs=1e-12) for token in got.keys() & expected)
    assert np.array_equal(array, np.array(logits, np.float64)), "the caller's logits were changed"


@given(LOGITS, PARAMS, st.floats(0, 1, exclude_max=True))
def test_what_is_picked_can_be_drawn(logits: list[float], params: SamplingParams, u: float) -> None:
    ids, probs = distribution(np.array(logits, np.float32), params)
    assert probs.sum() == pytest.approx(1.0)
    assert (probs > 0).all()
    assert pick(ids, probs, u) in ids


def test_pick_is_the_inverse_of_the_cumulative_distribution() -> None:
    ids, probs = np.array([3, 5, 8]), np.array([0.25, 0.5, 0.25])
    edges = [(0.0, 3), (0.2499, 3), (0.25, 5), (0.7499, 5), (0.75, 8), (1 - 2**-53, 8)]
    assert [pick(ids, probs, u) for u, _ in edges] == [token for _, token in edges]


def test_equal_logits_go_to_the_lower_token() -> None:
    logits = np.array([1.0, 5.0, 5.0, 5.0], np.float32)
    assert list(distribution(logits, SamplingParams(temperature=0.0))[0]) == [1]
    assert list(distribution(logits, SamplingParams(top_k=2))[0]) == [1, 2]
    assert list(distribution(logits, SamplingParams(top_p=0.5))[0]) == [1, 2]


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-9}])
def test_greedy_by_every_road(params: dict[str, float]) -> None:
    rng = np.random.default_rng(7)
    for seed in range(20):
        logits = rng.normal(size=300).astype(np.float32)
        assert Sampler(SamplingParams(**params), seed).next(logits) == int(logits.argmax())  # type: ignore[arg-type]  # parameters by name


def test_top_k_at_or_above_the_vocabulary_is_off() -> None:
    logits = np.array([0.0, 1.0, 2.0], np.float32)
    whole = distribution(logits, SamplingParams())
    for k in (3, 4, 1000):
        got = distribution(logits, SamplingParams(top_k=k))
        assert np.array_equal(got[0], whole[0])
        assert np.array_equal(got[1], whole[1])


def test_a_wide_nucleus_is_found_beyond_the_first_guess() -> None:
    logits = np.zeros(5000, np.float32)
    ids, _ = distribution(logits, SamplingParams(top_p=0.49995))
    assert list(ids) == list(range(2500))


def test_a_penalty_of_zero_repeats_without_nan() -> None:
    sampler = Sampler(SamplingParams(repetition_penalty=0.0), 5)
    drawn = [sampler.next(np.array([0.5, 0.4, 0.3], np.float32)) for _ in range(5)]
    assert len(set(drawn)) == 1


def test_the_penalty_counts_generated_tokens_only_and_pushes_both_signs_down() -> None:
    params = SamplingParams(temperature=0.0, repetition_penalty=2.0)
    sampler = Sampler(params, 0)
    logits = np.array([3.0, 2.0, -1.0, -1.5], np.float32)
    assert [sampler.next(logits) for _ in range(3)] == [0, 1, 0]  # 3 -> 1.5, 2 -> 1, then 1.5 is the largest again
    _, probs = distribution(np.array([-1.0, -1.0]), SamplingParams(repetition_penalty=2.0), {0})
    assert probs[0] < probs[1]


def test_padding_rows_are_never_drawn() -> None:
    logits = np.array([0.0, 1.0, 9.0, 9.0], np.float32)
    assert list(distribution(logits, SamplingParams(vocab_size=2))[0]) == [0, 1]
    assert Sampler(SamplingParams(temperature=0.0, vocab_size=2), 0).next(logits) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nonsense_logits_are_an_error(value: float, temperature: float) -> None:
    logits = np.array([0.0, value, 1.0], np.float32)
    with pytest.raises(NonFiniteLogitsError):
        Sampler(SamplingParams(temperature=temperature), 0).next(logits)


def test_impossible_tokens_are_no_survivors() -> None:
    ids, _ = distribution(np.array([0.0, -math.inf, -5000.0]), SamplingParams())
    assert list(ids) == [0]


def test_equal_seeds_give_equal_tokens_and_others_differ() -> None:
    logits = np.zeros(100, np.float32)

    def draw(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(), seed)
        return [sampler.next(logits) for _ in range(20)]

    assert draw(42) == draw(42)
    assert len({tuple(draw(seed)) for seed in (0, 1, 2**53, 2**53 + 1, 2**64 - 1)}) == 5


def test_the_counter_hash_is_splitmix64() -> None:
    # The first outputs of the reference SplitMix64 with state 1234567.
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + n * golden) % 2**64 for n in (1, 2, 3)]
    assert [mix64(state) for state in states] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert uniform(1, 0) == (mix64((mix64(1 + golden) + golden) % 2**64) >> 11) * 2.0**-53


def test_no_seed_begins_with_the_token_of_the_lowest_id() -> None:
    """Seed 0, and the seeds that a finalizer alone maps to 0."""
    golden = 0x9E3779B97F4A7C15
    for seed in (0, 1, 2**64 - golden, 2**64 - 1):
        assert min(uniform(seed, n) for n in range(64)) > 1e-4


@given(LOGITS, st.floats(0, 2), st.integers(0, 2**64 - 1))
def test_the_short_way_without_filters_draws_the_same_tokens(
    logits: list[float], temperature: float, seed: int
) -> None:
    params = SamplingParams(temperature=temperature)
    sampler = Sampler(params, seed)
    array = np.array(logits, np.float32)
    ids, probs = distribution(array, params)
    for n in range(5):
        assert sampler.next(array) == pick(ids, probs, uniform(seed, n))


def test_frequencies_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    counts = Counter(pick(*distribution(logits, SamplingParams()), uniform(3, n)) for n in range(4000))
    chi2 = sum((counts[token] - 4000 * p) ** 2 / (4000 * p) for token, p in enumerate((0.5, 0.3, 0.2)))
    assert chi2 < 13.8  # p = 0.001 with 2 degrees of freedom; the draw is fixed by the seed

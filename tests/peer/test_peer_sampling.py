from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from m0_peer.requests import ExecuteRequest, Limits, parse_execute
from m0_peer.sampling import Sampler

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], dtype=np.float32))


def request(**fields: object) -> ExecuteRequest:
    body = json.dumps({"job_id": "1", "prompt": "x", "seed": 7, **fields}).encode()
    return parse_execute(body, Limits(vocab_size=4, max_tokens_out=2048, stop_tokens=len))


def drawn(n: int = 4000, **fields: object) -> dict[int, float]:
    """Shares of first tokens over many seeds."""
    counts = Counter(Sampler(request(**{**fields, "seed": seed})).pick(LOGITS) for seed in range(n))
    return {token: count / n for token, count in sorted(counts.items())}


def test_temperature_1_draws_with_the_model_s_own_probabilities() -> None:
    shares = drawn()
    assert [shares[token] for token in range(4)] == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.03)


def test_temperature_scales_before_the_nucleus_is_cut() -> None:
    # Halved logits give 0.37, 0.26, 0.2, 0.17: 0.6 needs the first two; unscaled it would be two as well, 0.7 three.
    assert set(drawn(400, temperature=2.0, top_p=0.7)) == {0, 1, 2}
    assert set(drawn(400, temperature=1.0, top_p=0.7)) == {0, 1}


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}, {"top_p": 1e-9}, {"min_p": 1.0}]
)
def test_one_candidate_is_the_likeliest(fields: dict[str, object]) -> None:
    assert set(drawn(100, **{"temperature": 1.5, **fields})) == {0}


def test_top_k_and_min_p_cut() -> None:
    assert set(drawn(400, top_k=2)) == {0, 1}
    assert set(drawn(400, min_p=0.25)) == {0, 1, 2}


def test_among_equals_the_lower_token_wins() -> None:
    level = np.zeros(4, dtype=np.float32)
    assert Sampler(request(temperature=0.0)).pick(level) == 0
    assert Sampler(request(top_k=1)).pick(level) == 0


def test_penalty_looks_at_generated_tokens_and_knows_the_sign() -> None:
    sampler = Sampler(request(temperature=0.0, repetition_penalty=2.0))
    logits = np.array([3.0, 2.0, -1.0, -1.5], dtype=np.float32)
    assert [sampler.pick(logits) for _ in range(3)] == [0, 1, 0]  # 3, then 1.5 < 2, then 1.5 > 1
    sampler = Sampler(request(temperature=0.0, repetition_penalty=2.0))
    negative = np.array([-1.0, -1.5, -9.0, -9.0], dtype=np.float32)
    assert [sampler.pick(negative) for _ in range(2)] == [0, 1]  # -2 < -1.5


def test_penalty_0_and_tiny_temperatures_stay_finite() -> None:
    sampler = Sampler(request(repetition_penalty=0.0, temperature=1e-300))
    assert {sampler.pick(LOGITS) for _ in range(3)} <= {0, 1, 2, 3}


def test_the_same_seed_draws_the_same_and_the_logits_stay() -> None:
    def draw(seed: int) -> list[int]:
        sampler = Sampler(request(seed=seed))
        return [sampler.pick(LOGITS) for _ in range(50)]

    before = LOGITS.copy()
    assert draw(2**64 - 1) == draw(2**64 - 1)
    assert draw(0) != draw(1)
    assert np.array_equal(LOGITS, before)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nonsense_is_not_sampled(wrong: float) -> None:
    with pytest.raises(FloatingPointError):
        Sampler(request(temperature=0.0)).pick(np.array([0.0, wrong, 1.0, 0.0], dtype=np.float32))

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m0_worker.tokenizers.merging import merge


def naive(symbols: list[str], priorities: dict[str, float]) -> list[str]:
    """The definition: join the best pair of neighbours, leftmost first, one at a time."""
    while True:
        best = min(
            (
                (priorities[left + right], at)
                for at, (left, right) in enumerate(pairwise(symbols))
                if left + right in priorities
            ),
            default=None,
        )
        if best is None:
            return symbols
        at = best[1]
        symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]


@pytest.mark.parametrize("ties", [1, 7])
@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="abc", max_size=40), seed=st.integers(0, 10_000))
def test_equals_the_definition(ties: int, text: str, seed: int) -> None:
    draw = random.Random(seed)
    joined = ["".join(draw.choices("abc", k=draw.randrange(2, 6))) for _ in range(30)]
    priorities = {spelling: float(rank // ties) for rank, spelling in enumerate(joined)}
    assert merge(list(text), lambda left, right: priorities.get(left + right)) == naive(list(text), priorities)


def test_one_letter_32768_times_takes_less_than_a_second() -> None:
    priorities = {"a" * 2**power: power for power in range(1, 8)}
    started = time.process_time()
    merged = merge(["a"] * 32_768, lambda left, right: priorities.get(left + right))
    assert time.process_time() - started < 1.0
    assert merged == ["a" * 128] * 256


def test_nothing_to_join() -> None:
    assert merge([], lambda *_: 0) == []
    assert merge(["a"], lambda *_: 0) == ["a"]
    assert merge(["a", "b"], lambda *_: None) == ["a", "b"]

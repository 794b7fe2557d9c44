"""The plan of repeats covers what it says it covers."""

from __future__ import annotations

from itertools import combinations

import pytest
from m0_conformance.conditions.rounds import FORMS, OF_JOBS, ROUNDS, USUAL, row


def test_each_request_meets_every_form_of_every_dimension() -> None:
    for number in range(100):
        for name, forms in FORMS.items():
            assert {row(round_, number, f"job {number}")[name] for round_ in range(ROUNDS)} == set(forms)


def test_any_two_forms_meet_within_forty_requests() -> None:
    met = {
        (first, one[first], second, one[second])
        for round_ in range(ROUNDS)
        for number in range(40)
        for one in [row(round_, number, f"job {number}").forms]
        for first, second in combinations(FORMS, 2)
    }
    every = sum(len(set(FORMS[first])) * len(set(FORMS[second])) for first, second in combinations(FORMS, 2))
    assert len(met) >= 0.99 * every


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_equal_jobs_take_equal_forms(round_: int) -> None:
    one, other = row(round_, 3, "the same"), row(round_, 17, "the same")
    assert all(one[name] == other[name] for name in OF_JOBS)


def test_what_may_not_vary_keeps_its_usual_form() -> None:
    for round_ in range(ROUNDS):
        chosen = row(round_, 5, "a", frozenset({"json"}))
        assert all(chosen[name] == USUAL.get(name, forms[0]) for name, forms in FORMS.items() if name != "json")

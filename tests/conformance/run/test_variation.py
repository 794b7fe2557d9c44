"""A varied request means what the check's own request means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.conditions import Scene, find
from m0_conformance.conditions.rounds import FORMS, ROUNDS
from m0_conformance.run.variation import Variation

if TYPE_CHECKING:
    from m0_conformance.recording.request import Request

ALL = frozenset(FORMS)
JOB: dict[str, Any] = {"job_id": "job-1", "prompt": "*", "max_tokens": 5, "temperature": 0.0}


def varied(round_: int, job: dict[str, Any], number: int = 0, *, free: bool = True) -> Request:
    variation = Variation(round_, ALL, free=free)
    for _ in range(number):
        variation.step()
    return variation.written("/execute", variation.job(job), [])


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_the_job_stays_the_same_job(round_: int) -> None:
    for number in range(30):
        asked = json.loads(varied(round_, JOB, number).body)
        assert asked["prompt"].endswith("*")
        assert asked["max_tokens"] == 5
        assert "job-1" in asked["job_id"] or len(asked["job_id"]) == 36
        assert 0 <= asked.get("seed", 0) < 2**64


@pytest.mark.parametrize(
    "field", [{"temperature": 2.01}, {"top_k": -1}, {"seed": 2**64}, {"stop": [""]}, {"prompt": ""}]
)
def test_what_is_illegal_stays_as_it_is(field: dict[str, Any]) -> None:
    for round_ in range(ROUNDS):
        asked = json.loads(varied(round_, JOB | field).body)
        assert {name: asked[name] for name in field} == field


@pytest.mark.parametrize("value", ["0.0", None, "false"])
def test_a_value_of_another_type_is_not_mended(value: object) -> None:
    for round_ in range(ROUNDS):
        assert json.loads(varied(round_, JOB | {"temperature": value}).body)["temperature"] == value


def test_a_boolean_is_no_zero() -> None:
    assert all(json.loads(varied(n, JOB | {"temperature": False}).body)["temperature"] is False for n in range(ROUNDS))


def test_a_model_that_is_not_known_gets_the_prompt_and_the_numbers_as_they_are() -> None:
    for round_ in range(ROUNDS):
        asked = json.loads(varied(round_, JOB, free=False).body)
        assert {**asked, "job_id": "job-1", "lighthouse": 0} == {**JOB, "lighthouse": 0}


@pytest.mark.parametrize(
    "condition",
    [
        "prompt=medium", "prompt=long", "letters=astral", "letters=control", "letters=leading-space", "json=compact",
        "json=lines", "json=escapes", "json=job-id-last", "json=unknown-field", "header-names=lower",
        "header-names=upper", "media=charset", "media=capitals", "framing=chunked", "job-id=uuid", "job-id=long",
        "job-id=mixed-case", "job-id=beyond-ascii", "numbers=integer", "numbers=exponent", "numbers=many-digits",
        "numbers=negative-zero", "draw=sampled", "temperature=high", "temperature=low", "top_p=low", "top_k=high",
        "repetition_penalty=low", "min_p=given", "seed=zero", "seed=high", "stop=one", "stop=several",
        "stop=beyond-ascii", "stop=long", "together=top_k+top_p", "together=sampled+stop",
    ],
)  # fmt: skip
def test_the_forms_are_the_grids_levels(condition: str) -> None:
    """What the plan calls a form is what the saboteur's conditions call a level."""
    level = find(condition)
    jobs = [JOB, JOB | {"max_tokens": 7}, JOB | {"max_tokens": 9}]
    requests = [varied(round_, job, number) for round_ in range(ROUNDS) for job in jobs for number in range(12)]
    assert any(level.holds(Scene(tuple(request.headers), request.body)) for request in requests)

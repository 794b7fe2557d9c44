from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from m0_worker.http.errors import HttpError
from m0_worker.http.execute_request import execute_request
from m0_worker.http.limits import Limits
from m0_worker.http.models import CancelRequest
from m0_worker.http.validation import invalid_body
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from m0_worker.generation import Request

LIMITS = Limits(
    vocab_size=1000,
    logit_rows=1024,
    max_tokens_in=40_000,
    max_tokens_out=2048,
    encode=lambda text, whole: [0] * whole + [1] * len(text.split()),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("job_id", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed"),
    "unknown",
]


Model = TypeVar("Model", bound=BaseModel)


def valid(model: type[Model], document: dict[str, object]) -> Model:
    """The document as a model, or the 400 that the application answers."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid_body([{**each, "loc": ("body", *each["loc"])} for each in error.errors()], model) from error


def parse_execute(document: dict[str, object], limits: Limits) -> Request:
    return valid(execute_request(limits), document).job(limits)


def parse_cancel(document: dict[str, object]) -> str:
    return valid(CancelRequest, document).job_id


def parse(**fields: object) -> Request:
    return parse_execute({"job_id": "j", "prompt": "p", **fields}, LIMITS)


def errors(document: dict[str, object]) -> dict[str, str]:
    """Field to constraint."""
    with pytest.raises(HttpError) as raised:
        parse_execute(document, LIMITS)
    assert raised.value.status_code == 400
    assert raised.value.payload["code"] == "INVALID_REQUEST"
    assert raised.value.payload["retriable"] is False
    listed: Any = raised.value.payload["errors"]
    assert all(entry["field"] in entry["message"] for entry in listed)
    return {entry["field"]: entry["constraint"] for entry in listed}


def bad(**fields: object) -> str:
    found = errors({"job_id": "j", "prompt": "p", **fields})
    assert len(found) == 1
    return next(iter(found.values()))


def test_defaults() -> None:
    request = parse()
    assert (request.max_tokens, request.stop, request.prompt_tokens) == (2048, (), (0, 1))
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)
    assert (sampling.repetition_penalty, sampling.min_p) == (1.0, 0.0)
    assert sampling.vocab_size == 1000  # rows 1000 to 1023 are padding


def test_a_generated_seed_fits_a_double_and_varies() -> None:
    seeds = [parse().seed for _ in range(50)]
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert len(set(seeds)) == 50


@pytest.mark.parametrize(
    ("field", "good", "wrong"),
    [
        ("max_tokens", [1, 2048], [0, -1, 2049, 10_000]),
        ("temperature", [0, 0.0, 2, 2.0, 1e-300], [-0.1, 2.0000001, 1e999, -1e999, 10**400]),
        ("top_p", [0, 0.0, 1, 1.0], [-1e-9, 1.0000001]),
        ("min_p", [0, 1.0], [-0.1, 1.1]),
        ("repetition_penalty", [0, 2.0], [-0.1, 2.1]),
        ("top_k", [0, 1000], [-1, 1001]),
        ("seed", [0, 2**53 + 1, 2**64 - 1], [-1, 2**64]),
    ],
)
def test_both_sides_of_each_limit(field: str, good: list[float], wrong: list[float]) -> None:
    for value in good:
        request = parse(**{field: value})
        target = request if hasattr(request, field) else request.sampling
        assert getattr(target, field) == value
    for value in wrong:
        assert bad(**{field: value}).startswith("range(")


@pytest.mark.parametrize("field", ["max_tokens", "top_k", "seed"])
@pytest.mark.parametrize("value", [True, 1.0, 1.5, "1", None, [], {}])
def test_integers_are_nothing_but_integers(field: str, value: object) -> None:
    assert bad(**{field: value}) == "type(integer)"


@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "repetition_penalty"])
@pytest.mark.parametrize("value", [False, "0.5", None, [0.5], {}])
def test_numbers_are_nothing_but_numbers(field: str, value: object) -> None:
    assert bad(**{field: value}) == "type(number)"


@pytest.mark.parametrize("field", ["job_id", "prompt"])
def test_required_strings(field: str) -> None:
    assert bad(**{field: ""}) == "non_empty"
    for value in (None, 1, True, ["x"], {}):
        assert bad(**{field: value}) == "type(string)"
    complete: dict[str, object] = {"job_id": "j", "prompt": "p"}
    del complete[field]
    assert errors(complete) == {field: "required"}


def test_prompt_length_counts_code_points() -> None:
    assert len(parse(prompt="😀" * 32_768).prompt) == 32_768
    assert bad(prompt="a" * 32_769) == "length(1..=32768)"


def test_a_prompt_of_too_many_tokens() -> None:
    narrow = Limits(1000, 1000, 3, 2048, LIMITS.encode)
    assert parse_execute({"job_id": "j", "prompt": "a b"}, narrow).prompt_tokens == (0, 1, 1)
    with pytest.raises(HttpError) as raised:
        parse_execute({"job_id": "j", "prompt": "a b c"}, narrow)
    assert "max_tokens(3)" in str(raised.value.payload)


def test_a_text_without_tokens_is_the_clients_error() -> None:
    def refuse(_text: str, _whole: bool) -> list[int]:
        raise ValueError("no token for it")

    with pytest.raises(HttpError) as raised:
        parse_execute({"job_id": "j", "prompt": "p", "stop": ["s"]}, Limits(10, 10, 10, 10, refuse))
    assert [entry["field"] for entry in raised.value.payload["errors"]] == ["prompt", "stop[0]"]  # type: ignore[attr-defined]  # the worker's own error


def test_stop() -> None:
    assert parse(stop=None).stop == ()
    assert parse(stop=[]).stop == ()
    assert parse(stop=["a", "b", "a", "d"]).stop == ("a", "b", "d")
    assert parse(stop=["w " * 32]).stop == ("w " * 32,)
    assert bad(stop="END") == "type(array)"
    assert bad(stop=["a"] * 5) == "max_count(4)"
    assert bad(stop=["w " * 33]) == "max_tokens(32)"
    assert bad(stop=["é" * 100_000]) == "max_tokens(32)"
    assert bad(stop=["a"] * 100_000) == "max_count(4)"
    assert bad(stop=["a", ""]) == "non_empty"
    assert bad(stop=["a", 1]) == "type(string)"


def test_a_list_that_is_too_long_tells_its_bad_items_as_well() -> None:
    found = errors({"job_id": "j", "prompt": "p", "stop": ["", "a", 5, "w " * 33, "b", ""]})
    assert found == {
        "stop": "max_count(4)",
        "stop[0]": "non_empty",
        "stop[2]": "type(string)",
        "stop[3]": "max_tokens(32)",
    }  # the sixth is beyond what is looked at


def test_max_tokens_out_of_the_command_line_is_limit_and_default() -> None:
    narrow = Limits(1000, 1000, 100, 16, LIMITS.encode)
    assert parse_execute({"job_id": "j", "prompt": "p"}, narrow).max_tokens == 16
    with pytest.raises(HttpError, match="max_tokens"):
        parse_execute({"job_id": "j", "prompt": "p", "max_tokens": 17}, narrow)


def test_every_error_at_once() -> None:
    wrong: dict[str, object] = {
        "prompt": "",
        "max_tokens": 0,
        "temperature": 3,
        "top_p": "x",
        "top_k": -1,
        "repetition_penalty": -1,
        "min_p": 2,
        "stop": ["", 5],
        "seed": -1,
    }
    found = errors(wrong)
    assert set(found) == {*wrong, "job_id", "stop[0]", "stop[1]"} - {"stop"}


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_any_object_is_a_request_or_a_400(document: dict[str, object]) -> None:
    try:
        request = parse_execute(document, LIMITS)
    except HttpError as error:
        listed: Any = error.payload["errors"]
        assert error.status_code == 400  # noqa: PT017 - both outcomes are fine, a third is not
        assert listed
        assert "unknown" not in {entry["field"] for entry in listed}
    else:
        assert request.job_id
        assert request.prompt
        assert 1 <= request.max_tokens <= 2048
        assert 0 <= request.seed < 2**64


def test_cancel_needs_a_job() -> None:
    assert parse_cancel({"job_id": "x", "more": 1}) == "x"
    for document in ({}, {"job_id": ""}, {"job_id": None}, {"job_id": 5}):
        with pytest.raises(HttpError) as raised:
            parse_cancel(document)
        assert raised.value.status_code == 400


def test_a_prompt_without_a_token_is_refused() -> None:
    """A byte-level vocabulary may lack control characters: such a prompt gives the model nothing to continue."""
    limits = replace(LIMITS, encode=lambda text, _: [1] if text.strip("\x14") else [])
    document: dict[str, object] = {"job_id": "j", "prompt": "\x14"}
    with pytest.raises(HttpError) as refused:
        parse_execute(document, limits)
    assert "no token for any part of it" in str(refused.value.payload["errors"])
    assert parse_execute({**document, "prompt": "a\x14"}, limits).prompt_tokens == (1,)

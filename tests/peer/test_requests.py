from __future__ import annotations

import json
from typing import Any

import pytest
from m0_peer.errors import RefusedError
from m0_peer.requests import Limits, parse_cancel, parse_execute

LIMITS = Limits(vocab_size=300, max_tokens_out=2048, stop_tokens=lambda text: len(text.split()))


def refused(body: bytes) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        parse_execute(body, LIMITS)
    assert caught.value.status == 400
    assert caught.value.body["code"] == "INVALID_REQUEST"
    assert caught.value.body["retriable"] is False
    errors: Any = caught.value.body["errors"]
    return [error["field"] for error in errors]


def job(**fields: object) -> bytes:
    return json.dumps({"job_id": "1", "prompt": "x", **fields}).encode()


def test_defaults() -> None:
    request = parse_execute(job(), LIMITS)
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (2048, 1.0, 1.0, 0)
    assert (request.min_p, request.repetition_penalty, request.stop) == (0.0, 1.0, ())
    assert request.seed != parse_execute(job(), LIMITS).seed


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 1}, {"max_tokens": 2048}, {"temperature": 0}, {"temperature": 2.0}, {"top_p": 0.0},
        {"top_k": 300}, {"repetition_penalty": 0}, {"stop": ["a"] * 4}, {"stop": None}, {"seed": 2**64 - 1},
        {"prompt": "x" * 32768}, {"prompt": "\U0001f600" * 32768}, {"unknown": {"a": [1]}}, {"stop": ["w " * 32]},
    ],
)  # fmt: skip
def test_the_limits_themselves_are_valid(fields: dict[str, object]) -> None:
    parse_execute(job(**fields), LIMITS)


@pytest.mark.parametrize(
    "fields",
    [
        {"job_id": ""}, {"job_id": None}, {"job_id": 1}, {"prompt": ""}, {"prompt": "x" * 32769}, {"prompt": "\ud800"},
        {"max_tokens": 0}, {"max_tokens": 2049}, {"max_tokens": 1.0}, {"max_tokens": True}, {"temperature": 2.0000001},
        {"temperature": -1e-9}, {"temperature": "1"}, {"temperature": False}, {"top_p": 1.01}, {"top_k": 301},
        {"top_k": -1}, {"min_p": 1.5}, {"repetition_penalty": 2.1}, {"stop": "x"}, {"stop": ["a"] * 5}, {"stop": [""]},
        {"stop": [1]}, {"stop": ["w " * 33]}, {"seed": -1}, {"seed": 2**64}, {"seed": 1.5}, {"seed": "42"},
        {"temperature": 10**400}, {"seed": None},
    ],
)  # fmt: skip
def test_what_is_beyond_them_is_named(fields: dict[str, object]) -> None:
    assert refused(job(**fields)) == list(fields)


def test_everything_wrong_is_told_at_once() -> None:
    assert refused(b'{"prompt": 1, "top_p": 2, "seed": -1}') == ["job_id", "prompt", "top_p", "seed"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b"null", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a": 1, "a": 2}',
        b'{"job_id": "1", "prompt": "x", "temperature": NaN}', b'{"seed": ' + b"1" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert refused(body) == ["body"]


def test_a_number_too_large_for_a_double_is_out_of_range() -> None:
    assert refused(b'{"job_id": "1", "prompt": "x", "temperature": 1e999}') == ["temperature"]


@pytest.mark.parametrize("body", [b"{}", b'{"job_id": ""}', b'{"job_id": 1}', b"[]"])
def test_cancel_needs_a_job_id(body: bytes) -> None:
    with pytest.raises(RefusedError):
        parse_cancel(body)

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from m0_worker.http.errors import HttpError
from m0_worker.http.strict_json import check_content_type, parse_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def constraint(body: bytes) -> str:
    with pytest.raises(HttpError) as raised:
        parse_object(body)
    error = raised.value
    assert (error.status_code, error.payload["code"], error.payload["retriable"]) == (400, "INVALID_REQUEST", False)
    errors = error.payload["errors"]
    assert isinstance(errors, list)
    assert errors[0]["field"] == "body"
    json.dumps(error.payload)
    return str(errors[0]["constraint"])


@given(st.dictionaries(st.text(), JSON), st.booleans())
def test_every_json_object_is_read_as_it_is(document: dict[str, object], escaped: bool) -> None:
    assert parse_object(json.dumps(document, ensure_ascii=escaped).encode()) == document


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_400(body: bytes) -> None:
    try:
        parse_object(body)
    except HttpError as error:
        assert error.status_code == 400  # noqa: PT017 - both outcomes are fine, a third is not


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "non_empty"),
        (b"\xef\xbb\xbf{}", "json"),
        (b"{", "json"),
        (b"{} {}", "json"),
        (b"{'a':1}", "json"),
        (b'{"a":01}', "json"),
        (b'{"a":NaN}', "json"),
        (b'{"a":-Infinity}', "json"),
        (b'{"a":"\n"}', "json"),
        (b'{"a":1,}', "json"),
        (b'{"a":' + b"9" * 5000 + b"}", "json"),
        (b"[1]", "json_object"),
        (b'"a"', "json_object"),
        (b"null", "json_object"),
        (b'{"a":1,"b":2,"a":1}', "unique_names"),
        (b'{"x":{"a":1,"a":2}}', "unique_names"),
        (b'{"a":"\xff"}', "utf8"),
        (b'{"a":"\xed\xa0\x80"}', "utf8"),
        (b'{"a":"\\ud800"}', "unicode"),
        (b'{"\\udfff":1}', "unicode"),
        (b'{"a":[{"b":["\\udc00\\ud800"]}]}', "unicode"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "json_depth"),
        (b"[" * 10_000, "json_depth"),
        ('{"a":"é"}'.encode("utf-16"), "utf8"),
    ],
)
def test_what_is_no_json_object_says_what_is_wrong(body: bytes, expected: str) -> None:
    assert constraint(body) == expected


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


def test_a_hundred_thousand_names_are_checked_in_linear_time() -> None:
    names = ",".join(f'"{n}":{n}' for n in range(100_000))
    assert len(parse_object(f"{{{names}}}".encode())) == 100_000
    assert constraint(f'{{{names},"99999":0}}'.encode()) == "unique_names"


@pytest.mark.parametrize(
    "header", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"; v=1']
)
def test_json_content_types_are_taken(header: str) -> None:
    check_content_type(header)


@pytest.mark.parametrize("header", [None, "", "text/plain", "application/jsonx", "application/json; charset=latin-1"])
def test_other_content_types_are_415(header: str | None) -> None:
    with pytest.raises(HttpError) as raised:
        check_content_type(header)
    assert raised.value.status_code == 415

"""A request body becomes a JSON object, or an error that says why not.

JSON as RFC 8259 has it and nothing else: no byte order mark, no NaN, no repeated names, no half characters.
"""

from __future__ import annotations

import json
from typing import NoReturn

from m0_worker.http.errors import HttpError


def _refuse(constraint: str, message: str) -> NoReturn:
    raise HttpError.of_field(400, "body", constraint, message)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                _refuse("unique_names", f"the name {name[:100]!r} occurs more than once in an object")
            seen.add(name)
    return result


def _constant(word: str) -> NoReturn:
    _refuse("json", f"{word} is no JSON value")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def check_content_type(header: str | None) -> None:
    """A body must be declared as JSON in UTF-8.

    A page of another site can send any other type without asking first: no declaration is a foreign one.

    Raises:
        HttpError: 415.
    """
    kind, _, parameters = (header or "").lower().partition(";")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if kind.strip() != "application/json" or charset not in {"", "utf-8", "utf8"}:
        raise HttpError.of_field(
            415,
            "content-type",
            "application/json",
            "say content-type: application/json; the encoding is UTF-8",
        )


def _half_character(document: object) -> bool:
    """Whether any string of the document, names included, holds a lone surrogate."""
    open_values = [document]
    while open_values:
        value = open_values.pop()
        if isinstance(value, dict):
            open_values.extend(value)
            open_values.extend(value.values())
        elif isinstance(value, list):
            open_values.extend(value)
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return True
    return False


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object that a body holds.

    Raises:
        HttpError: 400 with what is wrong.
    """
    if not body:
        _refuse("non_empty", "the body is empty; send a JSON object")
    if body.startswith(b"\xef\xbb\xbf"):
        _refuse("json", "the body starts with a byte order mark; send JSON without one")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        _refuse("utf8", f"the body is not UTF-8: byte {error.start} begins no character")
    try:
        document = _decode(text)
    except json.JSONDecodeError as error:
        _refuse("json", f"the body is not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        _refuse("json_depth", "the body is nested too deeply")
    except ValueError:  # an integer of more digits than Python converts
        _refuse("json", "the body holds a number of too many digits")
    if not isinstance(document, dict):
        _refuse("json_object", "the body is JSON but not an object")
    if "\\u" in text:
        for name, value in document.items():
            if _half_character(name) or _half_character(value):
                _refuse("unicode", f"{ascii(name)[1:-1]} holds a lone surrogate, which is no character")
    return document

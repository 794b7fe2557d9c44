"""The bodies of POST /execute and POST /cancel (M0-W-1300, M0-W-1302): strict JSON, then every error at once."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from m0_peer.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PROMPT: Final = 32_768  # code points
MAX_JOB_ID: Final = 1024
MAX_STOP_TOKENS: Final = 32
MAX_STOP: Final = MAX_STOP_TOKENS * 256  # characters; longer ones are not worth counting tokens
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """A valid job."""

    job_id: str
    prompt: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    stop: tuple[str, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What depends on the model and the command line. `stop_tokens` counts the tokens of a string."""

    vocab_size: int
    max_tokens_out: int
    stop_tokens: Callable[[str], int]


class InvalidFieldError(ValueError):
    """One field is wrong: the rule it broke, and the same in words."""

    def __init__(self, constraint: str, message: str) -> None:
        super().__init__(message)
        self.constraint = constraint


def _malformed(message: str) -> NoReturn:
    raise RefusedError(400, f"body: {message}", [{"field": "body", "constraint": "json", "message": message}])


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) < len(pairs):
        _malformed("a name occurs twice in one object")
    return found


def _constant(word: str) -> NoReturn:
    _malformed(f"{word} is no JSON")


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object in a body. Python's parser takes more than JSON and fails in more than one way: both end here.

    Raises:
        RefusedError: 400.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_constant)
    except RecursionError:
        _malformed("nested too deeply")
    except ValueError as error:  # no UTF-8, no JSON, or an integer of thousands of digits
        _malformed(f"no JSON: {str(error)[:200]}")
    if not isinstance(document, dict):
        _malformed("no JSON object")
    return document


def _text(longest: int) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise InvalidFieldError("type(string)", "must be a string")
        if not 0 < len(value) <= longest:
            raise InvalidFieldError(
                f"length(1..={longest})", f"has {len(value)} characters, 1 to {longest} are allowed"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidFieldError("unicode", "holds half a surrogate pair, which is no character") from None
        return value

    return check


def _number(low: float, high: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidFieldError("type(number)", "must be a number")
        if not low <= value <= high or not math.isfinite(value):
            raise InvalidFieldError(f"range({low}..={high})", f"must be from {low} to {high}")
        return float(value)

    return check


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidFieldError("type(integer)", "must be an integer, written without a fraction")
        if not low <= value <= high:
            raise InvalidFieldError(f"range({low}..={high})", f"must be from {low} to {high}")
        return value

    return check


def _stops(count: Callable[[str], int]) -> Callable[[object], tuple[str, ...]]:
    text = _text(MAX_STOP)

    def check(value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            raise InvalidFieldError("type(array)", "must be an array of strings")
        if len(value) > 4:
            raise InvalidFieldError("max_count(4)", f"has {len(value)} strings, 4 are allowed")
        stops = tuple(dict.fromkeys(text(item) for item in value))
        if any(count(stop) > MAX_STOP_TOKENS for stop in stops):
            raise InvalidFieldError(
                f"max_tokens({MAX_STOP_TOKENS})", f"holds a string of more than {MAX_STOP_TOKENS} tokens"
            )
        return stops

    return check


class _Fields:
    """Takes fields out of an object and collects what is wrong with them."""

    def __init__(self, document: dict[str, object]) -> None:
        self._document = document
        self.errors: list[dict[str, str]] = []

    def take(self, name: str, check: Callable[[object], T], default: T | None = None) -> T:
        """A field's value; without a default the field is required. After an error the value means nothing."""
        if name in self._document:
            try:
                return check(self._document[name])
            except InvalidFieldError as error:
                self._wrong(name, error.constraint, str(error))
        elif default is None:
            self._wrong(name, "required", "is missing")
        return default  # type: ignore[return-value]  # None only beside an error, and then nobody looks

    def _wrong(self, name: str, constraint: str, message: str) -> None:
        self.errors.append({"field": name, "constraint": constraint, "message": f"{name} {message}"})

    def refuse(self) -> None:
        """Raise what was collected."""
        if self.errors:
            names = ", ".join(error["field"] for error in self.errors)
            raise RefusedError(400, f"invalid request: {names}", self.errors)


def parse_execute(body: bytes, limits: Limits) -> ExecuteRequest:
    """The job in a body. Unknown fields are ignored.

    Raises:
        RefusedError: 400 with everything that is wrong.
    """
    fields = _Fields(parse_object(body))
    request = ExecuteRequest(
        job_id=fields.take("job_id", _text(MAX_JOB_ID)),
        prompt=fields.take("prompt", _text(MAX_PROMPT)),
        max_tokens=fields.take("max_tokens", _whole(1, limits.max_tokens_out), limits.max_tokens_out),
        temperature=fields.take("temperature", _number(0.0, 2.0), 1.0),
        top_p=fields.take("top_p", _number(0.0, 1.0), 1.0),
        top_k=fields.take("top_k", _whole(0, limits.vocab_size), 0),
        min_p=fields.take("min_p", _number(0.0, 1.0), 0.0),
        repetition_penalty=fields.take("repetition_penalty", _number(0.0, 2.0), 1.0),
        stop=fields.take("stop", _stops(limits.stop_tokens), ()),
        # Drawn below 2^53, so that every JSON reader can send it back exactly; told in `started`.
        seed=fields.take("seed", _whole(0, (1 << 64) - 1), secrets.randbits(53)),
    )
    fields.refuse()
    return request


def parse_cancel(body: bytes) -> str:
    """The job_id to cancel.

    Raises:
        RefusedError: 400.
    """
    fields = _Fields(parse_object(body))
    job_id = fields.take("job_id", _text(MAX_JOB_ID))
    fields.refuse()
    return job_id

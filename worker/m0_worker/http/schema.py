"""POST /execute's body against M0-W-1300: every field, every limit, every error at once (M0-W-1302)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from m0_worker.generation import Request
from m0_worker.http.exchange import HttpError
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PROMPT = 32_768  # code points (reading E-CHARS)
MAX_STOPS = 4
MAX_STOP_TOKENS = 32
_MAX_SEED = 2**64 - 1
# The longest tokens of real vocabularies are runs of 256 spaces: what is longer is refused without being tokenized.
_MAX_STOP = MAX_STOP_TOKENS * 256


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that depend on the model and on the command line.

    Attributes:
        vocab_size: upper bound of top_k.
        logit_rows: rows of the model's output, of which those from vocab_size on are padding.
        max_tokens_in: longest prompt in tokens.
        max_tokens_out: upper bound of max_tokens, and its default.
        encode: text to tokens, with the special tokens that the model puts around a prompt or without.
    """

    vocab_size: int
    logit_rows: int
    max_tokens_in: int
    max_tokens_out: int
    encode: Callable[[str, bool], list[int]]


class _Fields:
    """Reads fields one by one and collects what is wrong with them."""

    def __init__(self, document: dict[str, object]) -> None:
        self._document = document
        self.errors: list[dict[str, object]] = []

    def wrong(self, field: str, constraint: str, message: str, value: object = None) -> None:
        entry: dict[str, object] = {"field": field, "constraint": constraint, "message": f"{field} {message}"}
        if value is not None:
            entry["value"] = str(value)[:64]
        self.errors.append(entry)

    def string(self, field: str) -> str:
        """A required, non-empty string; "" after an error."""
        if field not in self._document:
            self.wrong(field, "required", "is missing")
            return ""
        value = self._document[field]
        if not isinstance(value, str):
            self.wrong(field, "type(string)", f"must be a string, not {_kind(value)}")
            return ""
        if not value:
            self.wrong(field, "non_empty", "must not be empty")
        return value

    def integer(self, field: str, low: int, high: int, default: int) -> int:
        if field not in self._document:
            return default
        value = self._document[field]
        if not isinstance(value, int) or isinstance(value, bool):
            extra = ", written without a fraction" if isinstance(value, float) else ""
            self.wrong(field, "type(integer)", f"must be an integer{extra}, not {_kind(value)}", _shown(value))
        elif not low <= value <= high:
            self.wrong(field, f"range({low}..={high})", f"must be from {low} to {high}", value)
        else:
            return value
        return default

    def number(self, field: str, high: float, default: float) -> float:
        if field not in self._document:
            return default
        value = self._document[field]
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.wrong(field, "type(number)", f"must be a number, not {_kind(value)}", _shown(value))
        elif not 0.0 <= value <= high:
            self.wrong(field, f"range(0.0..={high})", f"must be from 0.0 to {high}", value)
        else:
            return float(value)
        return default

    def tokens(self, field: str, text: str, limit: int, encode: Callable[[str], list[int]]) -> list[int]:
        try:
            tokens = encode(text)
        except ValueError as error:  # the vocabulary has no token for a part of it
            self.wrong(field, "tokenizable", f"cannot be tokenized: {error}")
            return []
        if len(tokens) > limit:
            self.wrong(field, f"max_tokens({limit})", f"has {len(tokens)} tokens, {limit} are allowed")
        return tokens

    def stops(self, encode: Callable[[str], list[int]]) -> tuple[str, ...]:
        value = self._document.get("stop")
        if value is None:  # reading E-STOP3: null is as good as nothing
            return ()
        if not isinstance(value, list):
            self.wrong("stop", "type(array)", f"must be an array of strings, not {_kind(value)}")
            return ()
        if len(value) > MAX_STOPS:
            self.wrong("stop", f"max_count({MAX_STOPS})", f"may hold {MAX_STOPS} strings, not {len(value)}")
        for index, item in enumerate(value[: MAX_STOPS + 1]):
            field = f"stop[{index}]"
            if not isinstance(item, str):
                self.wrong(field, "type(string)", f"must be a string, not {_kind(item)}")
            elif not item:
                self.wrong(field, "non_empty", "must not be empty")
            elif len(item) > _MAX_STOP:
                self.wrong(field, f"max_tokens({MAX_STOP_TOKENS})", f"has more than {MAX_STOP_TOKENS} tokens")
            else:
                self.tokens(field, item, MAX_STOP_TOKENS, encode)
        return tuple(dict.fromkeys(item for item in value if isinstance(item, str)))


def _kind(value: object) -> str:
    """What JSON calls the type of a value."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "an array"}
    return names.get(type(value), "a number")


def _shown(value: object) -> object:
    """What an error may echo: never a structure, whose depth and size the client chose."""
    return value if _is_plain(value) else None


def _is_plain(value: object) -> TypeGuard[str | float | bool]:
    return isinstance(value, str | int | float | bool)


def parse_execute(document: dict[str, object], limits: Limits) -> Request:
    """The request that a JSON object asks for.

    Unknown fields are ignored (reading E-UNK). A seed that is not given is drawn below 2**53, so that every client can
    read it back from `started`.

    Raises:
        HttpError: 400 with an entry for each field that is wrong.
    """
    fields = _Fields(document)
    job_id = fields.string("job_id")
    prompt = fields.string("prompt")
    max_tokens = fields.integer("max_tokens", 1, limits.max_tokens_out, limits.max_tokens_out)
    sampling = SamplingParams(
        temperature=fields.number("temperature", 2.0, 1.0),
        top_p=fields.number("top_p", 1.0, 1.0),
        top_k=fields.integer("top_k", 0, limits.vocab_size, 0),
        min_p=fields.number("min_p", 1.0, 0.0),
        repetition_penalty=fields.number("repetition_penalty", 2.0, 1.0),
        vocab_size=limits.vocab_size if limits.vocab_size < limits.logit_rows else None,
    )
    stop = fields.stops(lambda text: limits.encode(text, False))
    seed = fields.integer("seed", 0, _MAX_SEED, -1)
    tokens: list[int] = []
    if len(prompt) > MAX_PROMPT:
        fields.wrong("prompt", f"length(1..={MAX_PROMPT})", f"has {len(prompt)} characters, {MAX_PROMPT} are allowed")
    elif prompt:
        tokens = fields.tokens("prompt", prompt, limits.max_tokens_in, lambda text: limits.encode(text, True))
    if fields.errors:
        names = ", ".join(str(entry["field"]) for entry in fields.errors)
        raise HttpError(400, f"invalid request: {names}", errors=fields.errors)
    return Request(
        job_id=job_id,
        prompt=prompt,
        prompt_tokens=tuple(tokens),
        max_tokens=max_tokens,
        sampling=sampling,
        stop=stop,
        seed=secrets.randbits(53) if seed < 0 else seed,
    )


def parse_cancel(document: dict[str, object]) -> str:
    """The job_id that POST /cancel names.

    Raises:
        HttpError: 400 when there is none.
    """
    fields = _Fields(document)
    job_id = fields.string("job_id")
    if fields.errors:
        raise HttpError(400, "invalid request: job_id", errors=fields.errors)
    return job_id

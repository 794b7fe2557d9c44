"""How a job is written: the prompt's size and letters, numbers, JSON, headers, framing, job_ids."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from m0_conformance.conditions.grid import level

if TYPE_CHECKING:
    from m0_conformance.conditions.scene import Scene

LONG_PROMPT = 2000
"""Characters; one token each on the suite's probes."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_FRACTIONS = ("temperature", "top_p", "repetition_penalty", "min_p")


# ---- the prompt ---------------------------------------------------------------------------------------------------


@level("prompt", "short", usual=True)
def prompt_short(scene: Scene) -> bool:
    """The prompt has less than 64 characters."""
    return 0 < len(scene.text_of("prompt")) < 64


@level("prompt", "medium")
def prompt_medium(scene: Scene) -> bool:
    """The prompt has 64 to 1,999 characters."""
    return 64 <= len(scene.text_of("prompt")) < LONG_PROMPT


@level("prompt", "long")
def prompt_long(scene: Scene) -> bool:
    """The prompt has 2,000 characters or more."""
    return len(scene.text_of("prompt")) >= LONG_PROMPT


@level("letters", "ascii", usual=True)
def letters_ascii(scene: Scene) -> bool:
    """The prompt is ASCII."""
    return scene.text_of("prompt").isascii()


@level("letters", "multi-byte")
def letters_multi_byte(scene: Scene) -> bool:
    """The prompt has letters of two or three bytes."""
    return any(0x80 <= ord(letter) < 0x10000 for letter in scene.text_of("prompt"))


@level("letters", "astral")
def letters_astral(scene: Scene) -> bool:
    """The prompt has characters above U+FFFF."""
    return any(ord(letter) >= 0x10000 for letter in scene.text_of("prompt"))


@level("letters", "control")
def letters_control(scene: Scene) -> bool:
    """The prompt has control characters."""
    return any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in scene.text_of("prompt"))


@level("letters", "leading-space")
def letters_leading_space(scene: Scene) -> bool:
    """The prompt begins with a space."""
    return scene.text_of("prompt").startswith(" ")


@level("letters", "trailing-space")
def letters_trailing_space(scene: Scene) -> bool:
    """The prompt ends with a space."""
    return scene.text_of("prompt").endswith(" ")


# ---- numbers and JSON ---------------------------------------------------------------------------------------------


def outside_strings(body: bytes) -> bytes:
    """The body's JSON with every string emptied: what is left of a value is number, word or bracket."""
    return _STRING.sub(b'""', body)


@level("numbers", "integer")
def numbers_integer(scene: Scene) -> bool:
    """A number that may have a fraction is written without one."""
    return any(isinstance(value := scene.job.get(name), int) and value is not True for name in _FRACTIONS)


@level("numbers", "exponent")
def numbers_exponent(scene: Scene) -> bool:
    """A number is written with an exponent."""
    return re.search(rb"\d[eE][+-]?\d", outside_strings(scene.body)) is not None


@level("numbers", "negative-zero")
def numbers_negative_zero(scene: Scene) -> bool:
    """A zero is written with a sign."""
    return re.search(rb"-0(?:\.0*)?(?![\d.])", outside_strings(scene.body)) is not None


@level("numbers", "many-digits")
def numbers_many_digits(scene: Scene) -> bool:
    """A fraction is written with more than 12 digits."""
    return re.search(rb"\.\d{13,}", outside_strings(scene.body)) is not None


@level("json", "compact")
def json_compact(scene: Scene) -> bool:
    """No space stands between the parts of the JSON."""
    bare = outside_strings(scene.body)
    return bare.startswith(b"{") and not re.search(rb"\s", bare)


@level("json", "lines")
def json_lines(scene: Scene) -> bool:
    """The JSON is spread over lines."""
    return b"\n" in outside_strings(scene.body)


@level("json", "escapes")
def json_escapes(scene: Scene) -> bool:
    """A string is written with escapes that it does not need."""
    return re.search(rb"\\u00[2-7]|\\/", scene.body) is not None


@level("json", "raw-utf8")
def json_raw_utf8(scene: Scene) -> bool:
    """Letters outside ASCII are written as UTF-8, without escapes."""
    return not scene.body.isascii()


@level("json", "job-id-last")
def json_job_id_last(scene: Scene) -> bool:
    """job_id comes last."""
    return len(scene.job) > 1 and next(reversed(scene.job)) == "job_id"


@level("json", "unknown-field")
def json_unknown_field(scene: Scene) -> bool:
    """There is a field that M0 does not know."""
    known = {"job_id", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
    return bool(set(scene.job) - known - {"stop", "seed"})


# ---- headers and framing ------------------------------------------------------------------------------------------


@level("header-names", "lower")
def header_names_lower(scene: Scene) -> bool:
    """Names of headers are in lower case."""
    return any(name == "content-type" for name, _ in scene.headers)


@level("header-names", "upper")
def header_names_upper(scene: Scene) -> bool:
    """Names of headers are in upper case."""
    return any(name == "CONTENT-TYPE" for name, _ in scene.headers)


@level("media", "charset")
def media_charset(scene: Scene) -> bool:
    """The content type names a charset."""
    return "charset" in scene.header("content-type").lower()


@level("media", "capitals")
def media_capitals(scene: Scene) -> bool:
    """The content type has capital letters."""
    media = scene.header("content-type").partition(";")[0]
    return media != media.lower()


@level("framing", "chunked")
def framing_chunked(scene: Scene) -> bool:
    """The request's body is chunked."""
    return scene.header("transfer-encoding").lower() == "chunked"


@level("framing", "pieces")
def framing_pieces(scene: Scene) -> bool:
    """The body comes in pieces with time between them."""
    return scene.pieces > 1


@level("framing", "kept-alive")
def framing_kept_alive(scene: Scene) -> bool:
    """The connection has carried a request before."""
    return scene.on_connection > 1


# ---- job_ids ------------------------------------------------------------------------------------------------------


@level("job-id", "uuid")
def job_id_uuid(scene: Scene) -> bool:
    """The job_id is a UUID."""
    with suppress(ValueError):
        return len(scene.text_of("job_id")) == 36 and bool(uuid.UUID(scene.text_of("job_id")))
    return False


@level("job-id", "mixed-case")
def job_id_mixed_case(scene: Scene) -> bool:
    """The job_id has capital and small letters."""
    text = scene.text_of("job_id")
    return text not in {text.lower(), text.upper()}


@level("job-id", "long")
def job_id_long(scene: Scene) -> bool:
    """The job_id is longer than 64 characters."""
    return len(scene.text_of("job_id")) > 64


@level("job-id", "prefix")
def job_id_prefix(scene: Scene) -> bool:
    """The job_id begins as an earlier one does that is shorter, or is the beginning of an earlier one."""
    text = scene.text_of("job_id")
    return bool(text) and any(
        one and one != text and (text.startswith(one) or one.startswith(text)) for one in scene.past.ids
    )


@level("job-id", "beyond-ascii")
def job_id_beyond_ascii(scene: Scene) -> bool:
    """The job_id has letters outside ASCII."""
    return not scene.text_of("job_id").isascii()

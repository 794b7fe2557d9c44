"""Keep credentials and people's names out of everything that leaves the machine.

Applied before a recording is hashed (so that the stored bytes are the shown bytes) and once more to each rendered view.
"""

from __future__ import annotations

import re
from typing import Any

REDACTED = "[redacted]"
_SHORTEST_SECRET = 6

_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token"}
)
# "Authorization: Bearer abc" in a log line, a curl command or a head; the value runs to the quote or the line's end.
_HEADER_IN_TEXT = re.compile(
    r"(?i)\b(authorization|proxy-authorization|cookie|set-cookie|x-api-key|api-key|x-auth-token)(\s*[:=]\s*)([^\r\n'\"]+)"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
# Every repetition is bounded: a hostile text must not cost more than its length.
_URL_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/@:]{1,200}:[^\s/@]{1,200}@")
_HOME = re.compile(r"(?<![\w.])/(?:home|Users)/[^/\s\"'\\:]+|(?<![\w./])/root(?=[/\s\"':]|$)")
_WINDOWS_HOME = re.compile(r"(?i)\b[a-z]:(?:\\\\?|/)users(?:\\\\?|/)[^\\/\s\"']+")
# Most texts hold none of it: one look spares five substitutions.
_MAYBE = re.compile(r"(?i)authorization|cookie|api-key|auth-token|bearer|basic|://|/home/|/users/|/root|users\\")


_hidden: set[str] = set()


def hide(value: str) -> None:
    """Replace this text from now on wherever it stands; one of few characters says nothing and is left alone."""
    if len(value) >= _SHORTEST_SECRET:
        _hidden.add(value)


def redact(text: str) -> str:
    """The text without credentials and home folders: '/home/ann/m.gguf' becomes '~/m.gguf'."""
    for value in _hidden:
        text = text.replace(value, REDACTED)
    if not _MAYBE.search(text):
        return text
    text = _HEADER_IN_TEXT.sub(rf"\1\2{REDACTED}", text)
    text = _BEARER.sub(rf"\1 {REDACTED}", text)
    text = _URL_PASSWORD.sub(rf"\1{REDACTED}@", text)
    return _WINDOWS_HOME.sub("~", _HOME.sub("~", text))


def redact_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Header pairs in order, secret values replaced by name."""
    return [(name, REDACTED if name.lower() in _SECRET_HEADERS else redact(value)) for name, value in headers]


def redact_json(value: Any) -> Any:
    """Every string of a JSON value redacted; keys that name a secret header lose their value."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redact_json(item) for item in value]
    if isinstance(value, dict):
        return {
            key: REDACTED if isinstance(item, str) and key.lower() in _SECRET_HEADERS else redact_json(item)
            for key, item in value.items()
        }
    return value

"""What a client sends: a well-formed request, or bytes that are none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.recording.transcript import Json


@dataclass(slots=True)
class Request:
    """What to send."""

    method: str
    path: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes | None = None
    """Bytes to send instead of a well-formed request; method and path then only label the exchange."""
    pauses: Sequence[tuple[int, float]] = ()
    """Pause (seconds) after so many bytes were sent, or when so many are left (negative): a slow client."""
    half_close: bool = False
    """Close our sending side after the request."""
    receive_buffer: int | None = None
    """SO_RCVBUF: a small one makes a client that does not read felt early."""


def json_request(method: str, path: str, value: Json, headers: Sequence[tuple[str, str]] = ()) -> Request:
    """A request with a JSON body; lone surrogates travel as escapes."""
    body = json.dumps(value).encode("ascii")
    return Request(method, path, [("Content-Type", "application/json"), *headers], body)

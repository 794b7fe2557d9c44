"""X-Correlation-ID: the client's own if it is a UUID, else a new one; on every answer and in the job's log lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send

_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_KEY = "m0.correlation_id"


def assign(scope: Scope) -> str:
    """Give a request its ID."""
    given: bytes = dict(scope["headers"]).get(b"x-correlation-id", b"")
    scope[_KEY] = given.decode() if _UUID.fullmatch(given) else str(uuid4())
    return correlation_id(scope)


def correlation_id(scope: Scope) -> str:
    """The ID of a request."""
    return str(scope[_KEY])


class Sending:
    """Sends an answer with its request's ID, and remembers whether all of it went out."""

    __slots__ = ("_header", "_send", "complete")

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._header = (b"x-correlation-id", identity.encode())
        self.complete = False

    async def __call__(self, message: Message) -> None:
        """One ASGI message."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), self._header]}
        await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)

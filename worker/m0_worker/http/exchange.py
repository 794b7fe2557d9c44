"""One HTTP request and its answer, as ASGI messages."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from m0_worker.errors import Code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

MAX_BODY = 4 * 1024 * 1024  # bytes; a 32,768-character prompt, every character escaped, is a tenth of it
# A refused body is still read up to here, so that its sender gets to read the answer instead of a reset connection.
_MAX_DRAINED = 64 * 1024 * 1024
_BODY_TIMEOUT_S = 30.0
_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class HttpError(Exception):
    """An answer other than success. Every one has a JSON body with code, message and retriable.

    `errors` lists what is wrong with a request, one entry for each field (reading E-400BODY).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: Code = Code.INVALID_REQUEST,
        retriable: bool = False,
        errors: Sequence[dict[str, object]] = (),
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = tuple(headers)
        self.payload: dict[str, object] = {"code": code.name, "message": message, "retriable": retriable}
        if errors:
            self.payload["errors"] = list(errors)

    @classmethod
    def of_field(cls, status: int, field: str, constraint: str, message: str) -> HttpError:
        """An error about one field; "body" stands for the body as a whole."""
        entry: dict[str, object] = {"field": field, "constraint": constraint, "message": message}
        return cls(status, message, errors=[entry])


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Exchange:
    """A request with what is needed to answer it."""

    __slots__ = ("answered", "correlation_id", "headers", "method", "path", "receive", "send")

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])  # names in lower case
        self.receive = receive
        self.send = send
        self.answered = False
        given = self.headers.get(b"x-correlation-id", b"")
        self.correlation_id = given.decode() if _UUID.fullmatch(given) else str(uuid4())

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            HttpError: 413 when it is longer than MAX_BODY, 408 when it does not arrive.
            ClientGoneError: the connection closed first.
        """
        declared = self.headers.get(b"content-length", b"")
        too_long = declared.isdigit() and int(declared) > MAX_BODY
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk: bytes = message.get("body", b"")
                    size += len(chunk)
                    too_long = too_long or size > MAX_BODY
                    if not too_long:
                        chunks.append(chunk)
                    if not message.get("more_body", False) or size > _MAX_DRAINED:
                        break
        except TimeoutError:
            raise HttpError.of_field(408, "body", "complete", "the body did not arrive in time") from None
        if too_long:
            raise HttpError.of_field(413, "body", f"length(..={MAX_BODY})", f"the body is longer than {MAX_BODY} bytes")
        return b"".join(chunks)

    async def answer(
        self, status: int, body: bytes, content_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send a whole response."""
        await self._head(
            status, [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
        )
        await self.send({"type": "http.response.body", "body": body})

    async def json(self, status: int, payload: dict[str, object], headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a JSON response."""
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
        await self.answer(status, body, b"application/json", headers)

    async def refuse(self, error: HttpError) -> None:
        """Send an error. A body that was not read to its end leaves no connection to go on with."""
        close = ((b"connection", b"close"),) if error.status in {408, 413} else ()
        await self.json(error.status, error.payload, (*error.headers, *close))

    async def begin_stream(self) -> None:
        """Send the head of an event stream."""
        await self._head(
            200,
            [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")],
        )

    async def write(self, data: bytes) -> None:
        """Send a piece of the stream at once."""
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes) -> None:
        """Send the last piece and end the body."""
        await self.send({"type": "http.response.body", "body": data})

    async def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        headers.append((b"x-correlation-id", self.correlation_id.encode()))
        self.answered = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

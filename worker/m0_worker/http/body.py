"""How a body is read: FastAPI routes whose requests know a size limit, a time limit and strict JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel

from m0_worker.errors import Code
from m0_worker.http.errors import ClientGoneError, HttpError
from m0_worker.http.limits import MAX_BODY
from m0_worker.http.strict_json import check_content_type, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import Response

# A refused body is still read up to here, so that its sender gets to read the answer instead of a reset connection.
_MAX_DRAINED = 64 * 1024 * 1024
_BODY_TIMEOUT_S = 30.0
# What half-sent bodies may hold together. The first bytes of each are free: a /cancel gets through in any crowd.
_MAX_BODIES = 64 * 1024 * 1024
_FREE = 16 * 1024


class BodyBudget:
    """Bytes of bodies that are being received, of all requests together."""

    def __init__(self) -> None:
        self._held = 0

    def take(self, nbytes: int) -> bool:
        """Hold this many more; False when there is no room for them."""
        fits = self._held + nbytes <= _MAX_BODIES
        self._held += nbytes * fits
        return fits

    def give_back(self, nbytes: int) -> None:
        """Hold this many less."""
        self._held -= nbytes


class LimitedRequest(Request):
    """A request whose body is neither too long nor too slow."""

    _read: bytes | None = None

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            HttpError: 413 when it is longer than MAX_BODY, 408 when it does not arrive, 503 when there is no room.
            ClientGoneError: the connection closed first.
        """
        if self._read is None:
            self._read = await self._receive_all()
        return self._read

    async def _receive_all(self) -> bytes:
        declared = self.headers.get("content-length", "")
        too_long = declared.isdecimal() and int(declared) > MAX_BODY
        budget: BodyBudget = self.app.state.bodies
        chunks: list[bytes] = []
        size = held = 0
        crowded = False
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk: bytes = message.get("body", b"")
                    size += len(chunk)
                    too_long = too_long or size > MAX_BODY
                    counted = len(chunk) if size > _FREE else 0
                    if too_long or crowded or not budget.take(counted):
                        crowded = crowded or not too_long
                        chunks.clear()
                    else:
                        held += counted
                        chunks.append(chunk)
                    if not message.get("more_body", False) or size > _MAX_DRAINED:
                        break
        except TimeoutError:
            raise HttpError.of_field(408, "body", "complete", "the body did not arrive in time") from None
        finally:
            budget.give_back(held)
        if too_long:
            raise HttpError.of_field(413, "body", f"length(..={MAX_BODY})", f"the body is longer than {MAX_BODY} bytes")
        if crowded:
            told, retry = "bodies of other requests fill the memory", {"retry-after": "1"}
            raise HttpError(503, told, code=Code.INTERNAL, retriable=True, headers=retry)
        return b"".join(chunks)


class JsonRequest(LimitedRequest):
    """A request whose body is a JSON object in the strict sense of `strict_json`."""

    async def body(self) -> bytes:
        """The body, once its content type is known to be JSON's.

        Raises:
            HttpError: 415 for another content type or none, 400 for an empty body; 408, 413 and 503.
        """
        body = await super().body()
        if body or "content-type" in self.headers:
            check_content_type(self.headers.get("content-type"))
        if not body:
            parse_object(body)  # FastAPI takes an empty body for none and would not ask for its JSON
        return body

    async def json(self) -> dict[str, object]:
        """The object that the body holds.

        Raises:
            HttpError: 400 with what is wrong.
        """
        return parse_object(await self.body())


class LimitedRoute(APIRoute):
    """A route whose body has limits."""

    request_class: ClassVar[type[LimitedRequest]] = LimitedRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a request of our own class."""
        handler = super().get_route_handler()

        async def limited(request: Request) -> Response:
            return await handler(self.request_class(request.scope, request.receive))

        return limited


class ObjectRoute(LimitedRoute):
    """A route that takes a strict JSON object, whatever it holds."""

    request_class = JsonRequest


class JsonRoute(ObjectRoute):
    """A route whose object has a model."""

    @property
    def body_model(self) -> type[BaseModel]:
        """What the object must be."""
        model = None if self.body_field is None else self.body_field.field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{self.path} takes no model as its body")
        return model

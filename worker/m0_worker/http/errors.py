"""Answers other than success: M0's error body, as a pydantic model, as an exception and as a response."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from m0_worker.errors import Code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

StableCode = Literal[
    "INVALID_REQUEST",
    "MODEL_LOAD_FAILED",
    "INSUFFICIENT_VRAM",
    "VRAM_OOM",
    "CUDA_ERROR",
    "INFERENCE_TIMEOUT",
    "CANCELLED",
    "INTERNAL",
]
# A body that was not read to its end leaves no connection to go on with.
_UNREAD = frozenset({408, 413})


class Json(JSONResponse):
    """JSON with every character as it is; half a character, which UTF-8 cannot hold, as its escape."""

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description='Name of the field, `stop[2]` for an item; "body" stands for the body as a whole.')
    constraint: str = Field(description="The rule that it broke, such as `required` or `range(1..=2048)`.")
    message: str = Field(description="The same for people.")
    value: str | None = Field(None, description="The value that was sent, as text, where it is short and plain.")


class Error(BaseModel):
    """The body of every answer other than success."""

    code: StableCode = Field(description="M0-W-1500's stable codes.")
    message: str = Field(description="What happened, for people.")
    retriable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[FieldError] | None = Field(None, description="Everything that is wrong with the request, at once.")


class HttpError(HTTPException):
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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        close = {"connection": "close"} if status in _UNREAD else {}
        super().__init__(status, message, {**(headers or {}), **close})
        self.payload: dict[str, object] = {"code": code.name, "message": message, "retriable": retriable}
        if errors:
            self.payload["errors"] = list(errors)

    @classmethod
    def of_field(cls, status: int, field: str, constraint: str, message: str) -> HttpError:
        """An error about one field; "body" stands for the body as a whole."""
        entry: dict[str, object] = {"field": field, "constraint": constraint, "message": message}
        return cls(status, message, errors=[entry])

    def response(self) -> Json:
        """The answer that tells it."""
        return Json(self.payload, self.status_code, self.headers)


class ClientGoneError(HTTPException):
    """The client closed the connection before its request was complete: there is nobody to answer."""

    def __init__(self) -> None:
        super().__init__(499)

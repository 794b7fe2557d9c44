"""/openapi.json: FastAPI's description of the routes, made to say what the worker really answers.

FastAPI documents a 422 that is never sent, one kind of content for each route, and no answer of a whole application;
and it reads limits as doubles, in which the largest seed is another number.
Version 3.2 of OpenAPI is the first that can describe the events of a stream (`itemSchema`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from m0_worker.http.errors import Error
from m0_worker.http.limits import MAX_BODY
from m0_worker.http.models import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

VERSION = "3.2.0"
_REFERENCE = "#/components/schemas/{model}"

DESCRIPTION = f"""One process, one model, one job at a time.

Every answer other than success has M0's error body: `code`, `message`, `retriable`, and for a bad request `errors`,
which lists everything that is wrong at once. JSON is taken strictly: UTF-8, no byte order mark, no repeated names, no
NaN, no lone surrogates; a body holds at most {MAX_BODY} bytes and arrives within 30 seconds.

Another path is 404, another method of a path 405 with `Allow`, and what is no HTTP/1.1 is 400. A foreign Host or Origin
is 403. A head that is too long is 431 or 414, one that does not arrive 408, a connection too many 503.
Every answer to HTTP/1.1 carries X-Correlation-ID."""


def _problem(description: str, **more: Any) -> dict[str, Any]:
    """An answer with M0's error body."""
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=Error.__name__)}}}
    return {"description": description, "content": content, **more}


_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}, "required": True}}
BAD_OBJECT: dict[int | str, dict[str, Any]] = {
    400: _problem("The body is no JSON object in the strict sense."),
    408: _problem("The body did not arrive in time."),
    413: _problem(f"The body is longer than {MAX_BODY} bytes."),
    415: _problem("The content type is not application/json in UTF-8, or not given."),
    503: _problem("Bodies of other requests fill the memory that there is for them.", headers=_RETRY_AFTER),
}
BAD_JSON: dict[int | str, dict[str, Any]] = {
    **BAD_OBJECT,
    400: _problem("Fields are missing or wrong, or the body is no JSON object in the strict sense."),
}
ANY_OBJECT = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
BUSY = _problem(
    "As many jobs wait, or connections are open, as may; bodies of other requests fill the memory; or the worker shuts "
    "down.",
    headers=_RETRY_AFTER,
)
_UNEXPECTED = _problem("The worker failed unexpectedly.")
_FOREIGN = _problem("The Host or Origin is foreign: see --allowed-host.")
# Answers that belong to no operation.
_ELSEWHERE = {
    "NotFound": _problem("No such path; the message names those that there are."),
    "MethodNotAllowed": _problem(
        "The path takes other methods.",
        headers={"Allow": {"description": "Those methods.", "schema": {"type": "string"}, "required": True}},
    ),
    "NotHttp": _problem("What was sent is not valid HTTP/1.1, or has not exactly one Host."),
    "HeadTooSlow": _problem("No request came, or its head did not arrive in time; the connection is closed."),
    "TargetTooLong": _problem("Path and query are too long (414)."),
    "HeadTooLarge": _problem("The headers are too many or too long (431)."),
    "Crowded": _problem("As many connections are open as may (503).", headers=_RETRY_AFTER),
}
_CORRELATION = {
    "name": "X-Correlation-ID",
    "in": "header",
    "required": False,
    "description": "A UUID that the answer and the log will carry; anything else is replaced by a new one.",
    "schema": {"type": "string"},
}
_CORRELATED = {
    "description": "The request's UUID, or a new one.",
    "schema": {"type": "string", "format": "uuid"},
    "required": True,
}


def _event(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """One kind of event: its name, and the JSON in its data."""
    payload = {"$ref": _REFERENCE.format(model=model.__name__)}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": payload}
    return {"type": "object", "required": ["event", "data"], "properties": {"event": {"const": name}, "data": data}}


EVENT_STREAM: dict[str, Any] = {
    "description": "`started`, then `token` for each token, then exactly one of `end` and `error`.",
    "content": {"text/event-stream": {"itemSchema": {"oneOf": [_event(*each) for each in EVENTS.items()]}}},
}


def told_truly(schema: dict[str, Any], taken: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """FastAPI's document without what never happens and with what it cannot know.

    `taken` are the models of the bodies that the worker takes.
    """
    components = schema.setdefault("components", {})
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in taken]
    said: list[type[BaseModel]] = [Error, *EVENTS.values()]
    models += [(model, "serialization") for model in said]
    made = models_json_schema(models, ref_template=_REFERENCE)[1]["$defs"]
    schemas = {**components.get("schemas", {}), **made}
    components["schemas"] = {
        name: each for name, each in sorted(schemas.items()) if name not in {"HTTPValidationError", "ValidationError"}
    }
    components["responses"] = _ELSEWHERE
    for operations in schema["paths"].values():
        for method, operation in operations.items():
            _mend(method, operation)
        operations["parameters"] = [_CORRELATION]
    return schema


def _mend(method: str, operation: dict[str, Any]) -> None:
    answers: dict[str, dict[str, Any]] = operation["responses"]
    answers.pop("422", None)
    answers["403"] = dict(_FOREIGN)
    answers["500"] = dict(_UNEXPECTED)
    for answer in answers.values():
        answer["headers"] = {**answer.get("headers", {}), "X-Correlation-ID": _CORRELATED}
        if method == "head":
            answer.pop("content", None)
        for media in answer.get("content", {}).values():
            if "itemSchema" in media:
                media.pop("schema", None)  # would describe the stream as a whole, which is no JSON

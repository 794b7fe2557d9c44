"""The JSON Schemas beside this file, loaded once and compiled once."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json


def schema(name: str) -> dict[str, Json]:
    """The schema `name` ("event.started", "health", …) as JSON values. Raises FileNotFoundError for an unknown name."""
    text = files("m0_conformance.contract").joinpath(f"{name}.schema.json").read_text("utf-8")
    return cast("dict[str, Json]", json.loads(text))


@cache
def _validator(name: str) -> Draft202012Validator:
    value = schema(name)
    Draft202012Validator.check_schema(value)
    return Draft202012Validator(value, format_checker=Draft202012Validator.FORMAT_CHECKER)


def schema_errors(name: str, value: Json) -> list[str]:
    """Deviations of a value from the schema, each "path: what is wrong", in a stable order; empty when it conforms."""
    errors = sorted(_validator(name).iter_errors(value), key=lambda error: (list(map(str, error.path)), error.message))
    return [f"{'.'.join(map(str, error.path)) or 'the object'}: {error.message[:300]}" for error in errors]

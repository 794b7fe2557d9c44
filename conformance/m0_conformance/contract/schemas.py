"""The JSON Schemas beside this file, loaded once and compiled once. A JSON integer is written as one: 1.0 is none."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.recording.transcript import Json

_Validator: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call]  # its stub lacks the annotations
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


@cache
def schema(name: str) -> dict[str, Json]:
    """The schema `name` ("event.started", "health", …) as JSON values. Raises FileNotFoundError for an unknown name."""
    text = files("m0_conformance.contract").joinpath(f"{name}.schema.json").read_text("utf-8")
    value = cast("dict[str, Json]", json.loads(text))
    Draft202012Validator.check_schema(value)
    return value


@cache
def _validator(name: str, field: str | None = None) -> Draft202012Validator:
    return _Validator(schema(name) if field is None else schema(name)["properties"][field])


def conforms(name: str, value: Json) -> bool:
    """Whether a value is what the schema says."""
    return bool(_validator(name).is_valid(value))


def required(name: str) -> list[str]:
    """The fields that an object of this schema must have."""
    return list(schema(name)["required"])


def must_be(name: str, field: str) -> str:
    """What a field is by the schema, in words ("an integer above zero")."""
    return str(schema(name)["properties"][field]["description"])


def has(name: str, value: Mapping[str, Json], field: str) -> bool:
    """Whether an object has this field, and as the schema says."""
    return field in value and bool(_validator(name, field).is_valid(value[field]))

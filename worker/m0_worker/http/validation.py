"""pydantic's findings in M0's words: field, constraint, message and value, all of them at once (M0-W-1302)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from annotated_types import Ge, Le

from m0_worker.http.errors import HttpError
from m0_worker.http.limits import MAX_STOPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel


def kind(value: object) -> str:
    """What JSON calls the type of a value."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "an array"}
    return names.get(type(value), "a number")


def _is_plain(value: object) -> TypeGuard[str | float | bool]:
    """Whether an error may echo it: never a structure, whose depth and size the client chose."""
    return isinstance(value, str | int | float | bool)


def _bounds(model: type[BaseModel], field: str) -> tuple[object, object]:
    """Lowest and highest value of a number."""
    metadata = model.model_fields[field].metadata
    low = next(entry.ge for entry in metadata if isinstance(entry, Ge))
    high = next(entry.le for entry in metadata if isinstance(entry, Le))
    return low, high


def _told(found: Mapping[str, Any], model: type[BaseModel], field: str) -> tuple[str, str, bool]:
    """Constraint, message and whether the value may be shown."""
    value = found["input"]
    match found["type"]:
        case "float_type" if type(value) is int:  # too large for a float is too large
            return _told({**found, "type": "less_than_equal"}, model, field)
        case "missing":
            return "required", "is missing", False
        case "string_type":
            return "type(string)", f"must be a string, not {kind(value)}", False
        case "string_too_short":
            return "non_empty", "must not be empty", False
        case "string_too_long":
            most = found["ctx"]["max_length"]
            return f"length(1..={most})", f"has {len(value)} characters, {most} are allowed", False
        case "int_type":
            extra = ", written without a fraction" if isinstance(value, float) else ""
            return "type(integer)", f"must be an integer{extra}, not {kind(value)}", True
        case "float_type":
            return "type(number)", f"must be a number, not {kind(value)}", True
        case "greater_than_equal" | "less_than_equal":
            low, high = _bounds(model, field)
            return f"range({low}..={high})", f"must be from {low} to {high}", True
        case "list_type":
            return "type(array)", f"must be an array of strings, not {kind(value)}", False
        case "too_long":
            return f"max_count({MAX_STOPS})", f"may hold {MAX_STOPS} strings, not {len(value)}", False
        case _:  # a rule of ours, whose error says it all
            return str(found["type"]), str(found["msg"]), False


def entry(found: Mapping[str, Any], model: type[BaseModel]) -> dict[str, object]:
    """One of pydantic's errors, its place counted from the body, as M0's entry."""
    name, *items = found["loc"]
    field = str(name) + "".join(f"[{index}]" for index in items)
    constraint, message, shows = _told(found, model, str(name))
    told: dict[str, object] = {"field": field, "constraint": constraint, "message": f"{field} {message}"}
    if shows and _is_plain(found["input"]):
        told["value"] = str(found["input"])[:64]
    return told


def invalid_request(entries: Sequence[dict[str, object]]) -> HttpError:
    """The 400 that tells what is wrong with a request."""
    names = ", ".join(str(each["field"]) for each in entries)
    return HttpError(400, f"invalid request: {names}", errors=entries)


def invalid_body(found: Iterable[Mapping[str, Any]], model: type[BaseModel]) -> HttpError:
    """The 400 for what FastAPI found; its places begin with "body"."""
    return invalid_request([entry({**each, "loc": each["loc"][1:]}, model) for each in found])

"""JSON as RFC 8259 has it, with the deviations Python's reader lets pass reported instead of hidden."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json


@dataclass(frozen=True, slots=True)
class ParsedJson:
    """The value (None when it is not JSON at all) and every deviation met on the way."""

    value: Json
    problems: tuple[str, ...]
    """"not JSON: …", "duplicate key …", "NaN …", "lone surrogate"."""

    @property
    def ok(self) -> bool:
        """JSON without any deviation."""
        return not self.problems


def parse_json(data: bytes) -> ParsedJson:
    """Read one JSON text. Never raises; ill-formed UTF-8 is read with U+FFFD and reported."""
    problems: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen:
                problems.append(f"duplicate key {key!r}")
            seen[key] = value
        return seen

    def constant(name: str) -> float:
        problems.append(f"{name} is no JSON number")
        return 0.0

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append(f"ill-formed UTF-8 at byte {error.start}")
        text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        return ParsedJson(None, (*problems, f"not JSON: {error}"))
    if "\\u" in text and _has_lone_surrogate(value):
        problems.append("lone surrogate in a string")
    return ParsedJson(value, tuple(problems))


def _has_lone_surrogate(value: Json) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, list):
        return any(_has_lone_surrogate(item) for item in value)
    if isinstance(value, dict):
        return any(_has_lone_surrogate(key) or _has_lone_surrogate(item) for key, item in value.items())
    return False

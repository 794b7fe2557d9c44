"""Lies about log lines that several defects share."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from m0_conformance.saboteur.defect import Defect

_EVENTS = ("startup", "model-load-start", "model-load-complete", "ready", "execute-start", "execute-end", "shutdown")


def event_of(text: str) -> dict[str, Any] | None:
    """The log event that a line is."""
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None


class Narration(Defect):
    """Changes log events one by one."""

    def line(self, stream: str, text: str) -> list[str]:
        event = event_of(text)
        return [text] if event is None else [json.dumps(value) for value in self.narrate(event)]

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """The events that come out for one."""
        return [event]


class Missing(Narration):
    """One kind of event is not logged."""

    event_name: ClassVar[str] = ""
    source = "an event of the specification that nobody wrote"

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [] if event["event"] == self.event_name else [event]

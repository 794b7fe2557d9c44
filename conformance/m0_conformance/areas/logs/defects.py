"""Defects of what the worker logs: its events, their context, and what must not stand there."""

from __future__ import annotations

from typing import Any

from m0_conformance.saboteur.lie import on_log_event
from m0_conformance.saboteur.narration import _EVENTS, Narration, event_of


@on_log_event("M0-W-1900/execute-start", source="an event logged by the route and by the queue")
def log_execute_start_twice(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Two layers log execute_start for every job."""
    return [event, event] if event["event"] == "execute_start" else [event]


class PlainText(Narration):
    name = "log-plain-text"
    about = "The log is written for people: level, event and fields in words, no JSON."
    kills = tuple(f"M0-W-1900/{name}" for name in _EVENTS)
    source = "the default formatter of a logging library"

    def line(self, stream: str, text: str) -> list[str]:
        event = event_of(text)
        if event is None or event["event"] == "error":
            return [text]
        fields = " ".join(f"{key}={value}" for key, value in event.items() if key not in {"event", "level"})
        return [f"{event.get('level', 'INFO')} {event['event']} {fields}"]


@on_log_event("M0-W-1900/context", source="context of the start not handed on to the requests")
def log_without_model_ref(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Log events of jobs do not carry model_ref."""
    if event["event"].startswith("execute"):
        event.pop("model_ref", None)
    return [event]


@on_log_event("M0-W-1900/context", source="a constant of the development machine")
def log_worker_id_constant(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Every log event carries the same worker_id, whatever the worker was started with."""
    return [{**event, "worker_id": "00000000-0000-4000-8000-000000000000"}]


@on_log_event("M0-W-1900/job-id", source="known defect 9: correlation lost in a refactor")
def log_without_job_id(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a job do not carry its job_id."""
    event.pop("job_id", None)
    return [event]

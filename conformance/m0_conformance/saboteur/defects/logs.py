"""Log events and the progress of loading."""

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


class NoStartup(Missing):
    name = "log-without-startup"
    about = "The event startup is not logged."
    kills = ("M0-W-1900/startup",)
    event_name = "startup"


class NoLoadStart(Missing):
    name = "log-without-model-load-start"
    about = "The event model_load_start is not logged."
    kills = ("M0-W-1900/model-load-start",)
    event_name = "model_load_start"


class NoLoadComplete(Missing):
    name = "log-without-model-load-complete"
    about = "The event model_load_complete is not logged."
    kills = ("M0-W-1900/model-load-complete",)
    event_name = "model_load_complete"


class NoReady(Missing):
    name = "log-without-ready"
    about = "The event ready is not logged."
    kills = ("M0-W-1900/ready",)
    event_name = "ready"


class NoExecuteStart(Missing):
    name = "log-without-execute-start"
    about = "The event execute_start is not logged."
    kills = ("M0-W-1900/execute-start",)
    event_name = "execute_start"


class NoExecuteEnd(Missing):
    name = "log-without-execute-end"
    about = "The event execute_end is not logged."
    kills = ("M0-W-1900/execute-end",)
    event_name = "execute_end"


class NoShutdown(Missing):
    name = "log-without-shutdown"
    about = "The event shutdown is not logged."
    kills = ("M0-W-1900/shutdown",)
    event_name = "shutdown"


class StartTwice(Narration):
    name = "log-execute-start-twice"
    about = "Two layers log execute_start for every job."
    kills = ("M0-W-1900/execute-start",)
    source = "an event logged by the route and by the queue"

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
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


class ContextLost(Narration):
    name = "log-without-model-ref"
    about = "Log events of jobs do not carry model_ref."
    kills = ("M0-W-1900/context",)
    source = "context of the start not handed on to the requests"

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        if event["event"].startswith("execute"):
            event.pop("model_ref", None)
        return [event]


class ContextOfAnother(Narration):
    name = "log-worker-id-constant"
    about = "Every log event carries the same worker_id, whatever the worker was started with."
    kills = ("M0-W-1900/context",)
    source = "a constant of the development machine"

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**event, "worker_id": "00000000-0000-4000-8000-000000000000"}]


class JobIdLost(Narration):
    name = "log-without-job-id"
    about = "The events of a job do not carry its job_id."
    kills = ("M0-W-1900/job-id",)
    source = "known defect 9: correlation lost in a refactor"

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        event.pop("job_id", None)
        return [event]


class ProgressGap(Narration):
    name = "progress-without-half"
    about = "No model_load_progress is logged for 50 percent."
    kills = ("M0-W-1621/percentages",)
    source = "progress counted in tensors and rounded"

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [] if event["event"] == "model_load_progress" and event.get("percent") == 50 else [event]


class ProgressNone(Missing):
    name = "log-without-model-load-progress"
    about = "The event model_load_progress is not logged at all."
    kills = ("M0-W-1621/percentages",)
    event_name = "model_load_progress"


class ProgressFalls(Narration):
    name = "progress-falling"
    about = "25 percent comes after 50: two threads report."
    kills = ("M0-W-1621/rising",)
    source = "progress reported from more than one thread"

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        if event["event"] != "model_load_progress":
            return [event]
        if event.get("percent") == 25:
            self.held.append(event)
            return []
        if event.get("percent") == 50:
            return [event, *self.held]
        return [event]


class ProgressAfterLoad(Narration):
    name = "progress-after-complete"
    about = "100 percent is logged after model_load_complete."
    kills = ("M0-W-1621/rising",)
    source = "an event of a callback that runs later"

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        if event["event"] == "model_load_progress" and event.get("percent") == 100:
            self.held.append(event)
            return []
        return [event, *self.held] if event["event"] == "model_load_complete" else [event]

"""Defects of what the worker logs: its events, their context, and what must not stand there."""

from __future__ import annotations

from typing import Any

from m0_conformance.saboteur.narration import _EVENTS, Missing, Narration, event_of


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

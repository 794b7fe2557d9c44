"""What judges read from worker processes: how a launch ended, the events in its log, what it said about a failure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from m0_conformance.judging.streams import Stream, streams
from m0_conformance.recording.cause import cause, ending
from m0_conformance.recording.transcript import Launch, Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.recording.transcript import Json, Launch, LogLine, Recording

CODE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
"""A stable error code, such as MODEL_LOAD_FAILED."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line that is a log event by E-LOGS: a JSON object with the key event, at the top or below fields."""

    name: str
    values: dict[str, Json]
    """Its keys, those below `fields` and `span` lifted to the top."""
    line: LogLine


def log_event(line: LogLine) -> LogEvent | None:
    """The event that a line is, or None."""
    text = line.text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    inner = value.get("fields")
    inner = inner if isinstance(inner, dict) else {}
    name = value.get("event", inner.get("event"))
    if not isinstance(name, str):
        return None
    span = value.get("span")
    return LogEvent(name, {**(span if isinstance(span, dict) else {}), **value, **inner}, line)


def log_events(launch: Launch, *names: str) -> list[LogEvent]:
    """The launch's events in order of arrival, or those of these names."""
    found = [event for line in launch.lines if (event := log_event(line)) is not None]
    return [event for event in found if not names or event.name in names]


def given(recording: Recording, launch: Launch) -> dict[str, Json]:
    """What the check started this worker with, as it noted it: worker_id, model, gpu_device."""
    value = recording.facts.get("given", {}).get(launch.label, {})
    return value if isinstance(value, dict) else {}


def complaint(recording: Recording, launch: Launch) -> str:
    """What the launch said about its failure: stderr, error events and plain lines, without the model's path."""
    kept = []
    for line in launch.lines:
        event = log_event(line)
        if event is None or event.name == "error" or line.stream == "stderr":
            kept.append(line.text)
    text = "\n".join(kept)
    path = str(given(recording, launch).get("model", ""))
    for form in (path, json.dumps(path)[1:-1], PurePath(path).name):
        text = text.replace(form, "…") if form else text
    return text


def how_it_went(launch: Launch) -> str:
    """One line for a report."""
    ready = "" if launch.ready_at is None else f"ready after {launch.ready_at:.1f} s, "
    if launch.exit_code is None:
        return f"{ready}still running"
    words = ending(launch.exit_code)
    when = "" if launch.exited_at is None else f" after {launch.exited_at:.1f} s"
    why = cause(launch.lines) if launch.ready_at is None or launch.exit_code < 0 else ""
    return f"{ready}{words}{when}" + (f"; it said: {why}" if why else "")


def refused(launch: Launch) -> bool:
    """It ended by itself without having served."""
    return launch.ready_at is None and launch.exit_code is not None


def jobs_of(recording: Recording, launch: Launch) -> Iterator[Stream]:
    """The accepted jobs (status 200) that went to this worker."""
    for stream in streams(recording):
        if stream.exchange.host.rpartition(":")[2] == str(launch.port):
            yield stream


def scale_of(recording: Recording) -> float:
    """--timing-scale of the run."""
    value = recording.settings.get("timing_scale")
    return float(value) if isinstance(value, (int, float)) and value > 0 else 1.0


def signalled(launch: Launch, name: str = "SIGTERM") -> float | None:
    """When the check first sent this signal, seconds since the start; None when it never did."""
    return next((at for signal, at in launch.signals if signal == name), None)


IDLE_S: Final = 5.0


def told_to_end(recording: Recording, label: str) -> tuple[Launch, float] | None:
    """The launch of this label and when it was sent SIGTERM, if it was ready and running then."""
    launch = recording.launch(label)
    at = None if launch is None else signalled(launch)
    if launch is None or at is None or launch.ready_at is None:
        return None
    return (launch, at) if launch.exited_at is None or launch.exited_at >= at else None

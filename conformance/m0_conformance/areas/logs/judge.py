"""Judges of what the worker logs: its events, their context, and what must not stand there."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

from m0_conformance.judging import Finding, Findings, Launch, Recording, fail, judge, note, ok, require
from m0_conformance.judging.launches import given, jobs_of, log_events, signalled

LIFE: Final = "life"
_JOB_EVENTS: Final = ("execute_start", "execute_end")
_FIGURES: Final = re.compile(r"(?:_ms|_seconds|_sec|_us|_ns|_bytes|duration|latency|per_sec)$|tokens|vram|throughput")


def _life(recording: Recording) -> Launch | None:
    """The launch, if it became ready; every event of a start that failed is judged elsewhere."""
    launch = recording.launch(LIFE)
    return launch if launch is not None and launch.ready_at is not None else None


@judge("M0-W-1900/startup", "M0-W-1900/model-load-start", "M0-W-1900/model-load-complete", "M0-W-1900/ready")
def start_events(recording: Recording) -> Findings:
    """Each is there; their order is M0-W-1110/event-order."""
    launch = _life(recording)
    if launch is None:
        return
    for name in ("startup", "model_load_start", "model_load_complete", "ready"):
        clause = f"M0-W-1900/{name.replace('_', '-')}"
        yield _once_at_least(launch, name, clause)


def _once_at_least(launch: Launch, name: str, clause: str) -> Finding:
    if log_events(launch, name):
        return ok(launch, clause=clause)
    return fail(
        launch,
        f"no-{name.replace('_', '-')}",
        f"the event {name} is not logged",
        expected=f"event {name}",
        actual=", ".join(dict.fromkeys(event.name for event in log_events(launch))) or "no events",
        clause=clause,
    )


@judge("M0-W-1900/shutdown")
def shutdown_event(recording: Recording) -> Findings:
    """There when the worker ended by itself after SIGTERM; a worker that SIGTERM killed is M0-W-1340's."""
    launch = _life(recording)
    if launch is not None and signalled(launch) is not None and launch.exit_code is not None and launch.exit_code >= 0:
        yield _once_at_least(launch, "shutdown", "M0-W-1900/shutdown")


@judge("M0-W-1900/execute-start", "M0-W-1900/execute-end")
def job_events(recording: Recording) -> Findings:
    """As many as jobs were accepted, and as many as ended; read after the worker's exit, when all lines have come."""
    launch = _life(recording)
    if launch is None or launch.exit_code is None or launch.dropped_lines:
        return
    jobs = [stream for stream in jobs_of(recording, launch) if stream.started is not None]
    ended = [stream for stream in jobs if stream.terminal is not None and stream.terminal.kind == "end"]
    if not jobs or len(ended) != len(jobs):
        return  # whether a cut or failed job has "run to its end" is not said
    for name in _JOB_EVENTS:
        count, clause = len(log_events(launch, name)), f"M0-W-1900/{name.replace('_', '-')}"
        yield require(
            count == len(jobs),
            launch,
            f"{name.replace('_', '-')}-count",
            f"the event {name} is not logged once for every job",
            expected=f"{len(jobs)} events for {len(jobs)} jobs",
            actual=f"{count} events",
            clause=clause,
        )


@judge("M0-W-1900/job-id")
def job_id(recording: Recording) -> Findings:
    """execute_start and execute_end carry the job_id of one of the jobs."""
    launch = _life(recording)
    if launch is None:
        return
    known = {stream.request.get("job_id") for stream in jobs_of(recording, launch)}
    for event in log_events(launch, *_JOB_EVENTS):
        if event.values.get("job_id") in known:
            yield ok(launch, events=1)
        else:
            yield fail(
                launch,
                "no-job-id",
                f"an event {event.name} does not carry its job's job_id",
                expected="job_id of one of the jobs",
                actual=event.line.text[:200],
                t=event.line.at,
            )


@judge("M0-W-1900/context")
def context(recording: Recording) -> Findings:
    """worker_id, model_ref and gpu_device in every event, with the values of the command line."""
    launch = _life(recording)
    if launch is None:
        return
    known = given(recording, launch)
    name = PurePath(str(known.get("model", ""))).name
    for event in log_events(launch):
        values = event.values
        right = {
            "worker_id": str(values.get("worker_id", "")).lower() == str(known.get("worker_id")).lower(),
            "model_ref": name in str(values.get("model_ref", "")),
            "gpu_device": "gpu_device" not in known or str(values.get("gpu_device", "")) == str(known["gpu_device"]),
        }
        wrong = [key for key, there in right.items() if not there]
        if wrong:
            yield fail(
                launch,
                "context-missing",
                f"the event {event.name} lacks {', '.join(wrong)}, or has another value there",
                expected=f"worker_id {known.get('worker_id')}, model_ref …{name}, gpu_device {known.get('gpu_device')}",
                actual=event.line.text[:240],
                t=event.line.at,
            )
        else:
            yield ok(launch, events=1)


@judge("M0-W-1901/absent")
def no_figures(recording: Recording) -> Findings:
    """For information: numbers of memory, tokens or time in a job's events."""
    launch = _life(recording)
    events = [] if launch is None else log_events(launch, *_JOB_EVENTS)
    if launch is None or not events:
        return
    keys = sorted(
        {
            key
            for event in events
            for key, value in event.values.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and _FIGURES.search(key)
        }
    )
    yield note(launch, "figures-in-log", f"a job's events carry figures: {', '.join(keys)}") if keys else ok(launch)


@judge("M0-W-1902/no-prompt", "M0-W-1902/no-output")
def no_texts(recording: Recording) -> Findings:
    """For information: a unique word of a prompt, and the words that were generated, in the output of the process."""
    launch = _life(recording)
    if launch is None:
        return
    text = "\n".join(line.text for line in launch.lines)
    for name, words in (("no-prompt", "words in a prompt"), ("no-output", "words in an answer")):
        needles = recording.facts.get(words) or []
        found = [needle for needle in needles if needle in text]
        clause = f"M0-W-1902/{name}"
        if found:
            yield note(launch, f"{name}-kept-not", f"{words} stand in the log: {found[0][:40]!r}", clause=clause)
        elif needles:
            yield ok(launch, clause=clause)

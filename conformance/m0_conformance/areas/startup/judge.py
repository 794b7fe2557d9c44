"""Judges of start and end without a job: order of events, readiness, progress, SIGTERM while idle."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from m0_conformance.judging import (
    Exchange,
    Findings,
    Launch,
    Recording,
    fail,
    invariant,
    judge,
    note,
    ok,
    parse_json,
    require,
    stream_of,
)
from m0_conformance.judging.launches import IDLE_S, LogEvent, how_it_went, log_events, scale_of, told_to_end

IDLE: Final = "start"


@judge("M0-W-1340/sigterm-exit-zero")
def exit_zero(recording: Recording) -> Findings:
    """Whoever does not exit at all is M0-W-1340/sigterm-idle-deadline."""
    told = told_to_end(recording, IDLE)
    if told is None or told[0].exit_code is None:
        return
    if told[0].exit_code == 0:
        yield ok(told[0])
    else:
        yield fail(
            told[0],
            "exit-code-not-zero",
            "an idle worker does not end with exit code 0 on SIGTERM",
            expected="exit code 0",
        )


@judge("M0-W-1340/sigterm-idle-deadline")
def idle_deadline(recording: Recording) -> Findings:
    """Five seconds from the signal to the exit."""
    told = told_to_end(recording, IDLE)
    if told is None:
        return
    launch, at = told
    limit = IDLE_S * scale_of(recording)
    took = None if launch.exited_at is None else launch.exited_at - at
    yield require(
        took is not None and took <= limit,
        launch,
        "sigterm-ignored" if took is None else "exits-late",
        "an idle worker has not ended in time on SIGTERM",
        expected=f"exit within {limit:g} s",
        actual=how_it_went(launch) if took is None else f"{took:.1f} s",
        seen=f"{took or 0.0:.2f} s",
    )


START: Final = "start"
ORDER: Final = ("startup", "model_load_start", "model_load_complete", "ready")
READY_S: Final = 60.0
JITTER_S: Final = 0.25
"""Between a line in a pipe and an answer on a socket: two ways into one observer."""
MARGIN_S: Final = 0.05
"""Two moments closer than this have no order."""
PERCENTAGES: Final = (0.0, 25.0, 50.0, 75.0, 100.0)

_PERCENT_KEYS: Final = (
    "percent",
    "percentage",
    "pct",
    "progress",
    "progress_percent",
    "percent_complete",
    "progress_pct",
)


def _start(recording: Recording) -> Launch | None:
    """The launch in question, if it became ready: one that did not is for M0-SYS-2.4.1/standalone."""
    launch = recording.launch(START)
    return launch if launch is not None and launch.ready_at is not None else None


def _first(launch: Launch, name: str) -> LogEvent | None:
    return next(iter(log_events(launch, name)), None)


@judge("M0-W-1110/closed-until-loaded")
def closed_until_loaded(recording: Recording) -> Findings:
    """What the port said as soon as it was open, against the moment model_load_complete was logged (E-UPDOWN).

    A log that is not written as it happens tells no moments: its lines come all at once.
    """
    launch = _start(recording)
    if launch is None:
        return
    for exchange in recording.labelled("early health"):
        early = _early(launch, exchange, exchange.head_at)
        body = parse_json(exchange.body).value if exchange.status == 200 else None
        healthy = isinstance(body, dict) and body.get("status", "healthy") == "healthy"
        if early and healthy:
            yield fail(
                exchange,
                "healthy-before-load",
                "the worker calls itself healthy before its model is loaded",
                expected="no connection, HTTP 503, or a status that says loading",
            )
        elif exchange.status in {200, 503}:
            yield ok(exchange)
            if early or exchange.status == 503:
                yield note(exchange, "announced", "answers while it loads", reading=("E-UPDOWN", "announced"))
    for exchange in recording.labelled("early job"):
        started = stream_of(exchange).started if exchange.status == 200 else None
        if started is not None and _early(launch, exchange, started.at):
            yield fail(
                exchange,
                "job-before-load",
                "a job is started before the model is loaded",
                expected="no connection, or HTTP 503",
            )
        elif exchange.status is not None:
            yield ok(exchange)


def _early(launch: Launch, exchange: Exchange, at: float | None) -> bool:
    """`at`, on the exchange's clock, lies clearly before the line model_load_complete came, in a log that is live."""
    events, complete = log_events(launch), _first(launch, "model_load_complete")
    if at is None or complete is None or complete.line.at - events[0].line.at < MARGIN_S:
        return False
    return exchange.t0 + at - launch.t0 < complete.line.at - MARGIN_S


@judge("M0-W-1110/ready-serves")
def ready_serves(recording: Recording) -> Findings:
    """GET /health is answered at once when the event ready has been logged."""
    launch = _start(recording)
    ready = None if launch is None else _first(launch, "ready")
    if launch is None or ready is None:
        return
    limit = JITTER_S * scale_of(recording)
    answered = None
    for exchange in recording.labelled("at ready"):
        if exchange.status is not None and exchange.head_at is not None:
            answered = exchange
            break
    if answered is None or answered.head_at is None:
        if recording.labelled("at ready"):
            yield fail(
                launch,
                "ready-does-not-answer",
                "the port does not answer although ready was logged",
                expected="an answer",
                actual="none",
                t=ready.line.at,
            )
        return
    late = answered.t0 - (launch.t0 + ready.line.at)
    yield require(
        late <= limit,
        answered,
        "ready-too-early",
        "ready is logged before the port answers",
        expected=f"connections within {limit:g} s",
        actual=f"first answer {late:.2f} s after the event",
    )


def _before(launch: Launch, left: LogEvent | None, right: LogEvent | None) -> bool:
    """Left was logged before right, on the same stream: lines of two pipes have no common order."""
    if left is None or right is None or left.line.stream != right.line.stream:
        return False
    places = {id(line): number for number, line in enumerate(launch.lines)}
    return places[id(left.line)] < places[id(right.line)]


@judge("M0-W-1110/event-order")
def event_order(recording: Recording) -> Findings:
    """First occurrences."""
    launch = _start(recording)
    if launch is None:
        return
    found = [event for name in ORDER if (event := _first(launch, name)) is not None]
    if len(found) < 2:
        return
    wrong = [(left, right) for left, right in pairwise(found) if _before(launch, right, left)]
    if wrong:
        left, right = wrong[0]
        yield fail(
            launch,
            "event-order",
            f"{right.name} is logged before {left.name}",
            expected=", ".join(ORDER),
            actual=", ".join(event.name for event in log_events(launch, *ORDER)),
            t=right.line.at,
        )
    else:
        yield ok(launch)


@invariant("M0-W-1110/binds-all-interfaces", on="recording")
def binds_all_interfaces(recording: Recording) -> Findings:
    """Which interfaces are served is recorded (E-BIND)."""
    reachable = recording.facts.get("reachable from outside")
    if reachable is not None:
        variant = "all-interfaces" if reachable else "loopback"
        yield note(recording, "interfaces", f"serves {variant.replace('-', ' ')}", reading=("E-BIND", variant))


@judge("M0-W-1120/ready-60s")
def ready_in_time(recording: Recording) -> Findings:
    """GET /health answered within sixty seconds of the process's start."""
    launch = recording.launch(START)
    if launch is None or (launch.ready_at is None and launch.exit_code is not None):
        return
    limit = READY_S * scale_of(recording)
    yield require(
        launch.ready_at is not None and launch.ready_at <= limit,
        launch,
        "slow-start",
        "the worker is not ready in time",
        expected=f"{limit:g} s",
    )


def percentage(event: LogEvent) -> float | None:
    """The percentage that a model_load_progress event carries, under any of the usual names; "25%" counts too."""
    for key in _PERCENT_KEYS:
        value = event.values.get(key)
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]+(?:\.[0-9]+)?\s*%?\s*", value):
            return float(value.strip().rstrip("%"))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def _progress(launch: Launch) -> list[tuple[LogEvent, float]]:
    """Progress events with a percentage; shares from 0 to 1 become percentages."""
    found = [
        (event, value)
        for event in log_events(launch, "model_load_progress")
        if (value := percentage(event)) is not None
    ]
    if found and max(value for _, value in found) <= 1.0 and len(found) > 2:
        return [(event, value * 100) for event, value in found]
    return found


@judge("M0-W-1621/percentages")
def percentages(recording: Recording) -> Findings:
    """0, 25, 50, 75 and 100, each at least once; more are welcome."""
    launch = _start(recording)
    if launch is None:
        return
    seen = [value for _, value in _progress(launch)]
    missing = [f"{wanted:g}" for wanted in PERCENTAGES if not any(abs(value - wanted) < 0.5 for value in seen)]
    yield require(
        not missing,
        launch,
        "progress-missing",
        f"no model_load_progress for {', '.join(missing)} percent",
        expected="0, 25, 50, 75, 100",
        actual=", ".join(f"{value:g}" for value in seen) or "no model_load_progress",
    )


@judge("M0-W-1621/rising")
def rising(recording: Recording) -> Findings:
    """Never falling, and between model_load_start and model_load_complete where those are logged."""
    launch = _start(recording)
    progress = [] if launch is None else _progress(launch)
    if launch is None or not progress:
        return
    values = [value for _, value in progress]
    begun, complete = _first(launch, "model_load_start"), _first(launch, "model_load_complete")
    stray = [event for event, _ in progress if _before(launch, event, begun) or _before(launch, complete, event)]
    if any(left > right for left, right in pairwise(values)):
        yield fail(
            launch,
            "progress-falls",
            "the percentages of model_load_progress do not rise",
            expected="rising",
            actual=", ".join(f"{value:g}" for value in values),
        )
    elif stray:
        yield fail(
            launch,
            "progress-outside-load",
            "model_load_progress stands outside model_load_start and model_load_complete",
            expected="between the two",
            actual=stray[0].line.text[:160],
            t=stray[0].line.at,
        )
    else:
        yield ok(launch)

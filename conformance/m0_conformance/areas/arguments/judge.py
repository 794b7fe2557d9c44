"""Judges of the command line: wrong, missing and optional arguments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from m0_conformance.judging import (
    Exchange,
    Finding,
    Findings,
    Json,
    Launch,
    Recording,
    Stream,
    fail,
    judge,
    not_applicable,
    note,
    ok,
    require,
    stream_of,
)
from m0_conformance.judging.launches import complaint, log_events, refused, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator


BEFORE_LOAD_S = 5.0

_NAMES = {
    "--worker-id": re.compile(r"worker[-_ ]?id", re.IGNORECASE),
    "--model": re.compile(r"model", re.IGNORECASE),
    "--gpu-device": re.compile(r"gpu|device", re.IGNORECASE),
    "--port": re.compile(r"port\b", re.IGNORECASE),
}

_CLAUSES = (
    "required",
    "worker-id-uuid",
    "model-exists",
    "model-readable",
    "gpu-device-valid",
    "port-range",
    "port-free",
)


def _wrong(recording: Recording) -> Iterator[tuple[Launch, dict[str, Json]]]:
    """Launches with a wrong argument, each with its clause and the argument in question."""
    for label, case in recording.facts.get("wrong arguments", {}).items():
        launch = recording.launch(label)
        if launch is not None:
            yield launch, case


def _turned_away(launch: Launch) -> bool:
    return refused(launch) and launch.exit_code != 0


@judge(*(f"M0-W-1100/{name}" for name in _CLAUSES))
def wrong_argument(recording: Recording) -> Findings:
    """Each wrong argument ends the start with an exit code that is not zero."""
    for launch, case in _wrong(recording):
        clause = f"M0-W-1100/{case['clause']}"
        yield require(
            _turned_away(launch),
            launch,
            f"{case['clause']}-accepted",
            f"a start with a wrong argument ({launch.label}) does not fail",
            expected="exit code other than 0",
            clause=clause,
        )


@judge("M0-W-1100/names-argument")
def names_argument(recording: Recording) -> Findings:
    """The name of the argument, in any spelling, in what was written. Only where the start was refused."""
    for launch, case in _wrong(recording):
        if not _turned_away(launch):
            continue
        text = complaint(recording, launch)
        yield require(
            _NAMES[case["argument"]].search(text),
            launch,
            "argument-not-named",
            f"the message about a wrong argument ({launch.label}) does not name it",
            expected=case["argument"],
            actual=text[-200:] or "no output",
        )


@judge("M0-W-1100/before-load")
def before_load(recording: Recording) -> Findings:
    """Within five seconds, and no model_load_start in the log. Only where the start was refused."""
    limit = BEFORE_LOAD_S * scale_of(recording)
    for launch, _ in _wrong(recording):
        if not _turned_away(launch):
            continue
        loading = log_events(launch, "model_load_start", "model_load_progress", "model_load_complete")
        if loading:
            yield fail(
                launch,
                "found-after-load",
                f"the model is being loaded before a wrong argument ({launch.label}) is found",
                expected="no model_load_start",
                actual=loading[-1].name,
                t=loading[0].line.at,
            )
        else:
            yield require(
                (launch.exited_at or 0.0) <= limit,
                launch,
                "found-late",
                f"a wrong argument ({launch.label}) is found late",
                expected=f"exit within {limit:g} s",
            )


@judge("M0-W-1100/callback-accepted")
def callback_accepted(recording: Recording) -> Findings:
    """Ready with --callback-url, where a listener answers 200."""
    for launch in recording.launches:
        if launch.label != "callback":
            continue
        yield require(
            launch.ready_at is not None,
            launch,
            "callback-refused",
            "the worker does not become ready with --callback-url",
            expected="ready",
        )


@judge("M0-W-1110/callback-after-bind")
def callback_after_bind(recording: Recording) -> Findings:
    """For information: when the callback came, the port answered."""
    seen, launch = recording.facts.get("port open at callback"), recording.launch("callback")
    if launch is None:
        return
    if seen is True:
        yield ok(launch)
    elif seen is False:
        yield note(launch, "callback-before-bind", "the ready callback comes before the port is open")


def _option(recording: Recording, option: str) -> tuple[Launch, int] | None:
    """The launch that shows an option, and the value it was given."""
    case = recording.facts.get("options", {}).get(option)
    launch = None if case is None else recording.launch(case["launch"])
    return None if launch is None else (launch, case["value"])


def _of(recording: Recording, option: str, label: str, clause: str) -> Iterator[Finding | Exchange]:
    """The exchange of this label; a not-applicable finding where the worker does not know the option."""
    found = _option(recording, option)
    if found is None:
        return
    launch, _ = found
    if launch.ready_at is None:
        yield not_applicable(launch, f"the worker does not start with {option}", clause=clause)
        return
    yield from recording.labelled(label)


@judge("M0-W-1101/max-tokens-in")
def max_tokens_in(recording: Recording) -> Findings:
    """A longer prompt is refused or ends in an error; a shorter one is served."""
    for item in _of(recording, "--max-tokens-in", "long prompt", "M0-W-1101/max-tokens-in"):
        if isinstance(item, Finding):
            yield item
            continue
        stream = stream_of(item)
        ended = item.status == 200 and stream.terminal is not None and stream.terminal.kind == "end"
        if ended or item.status is None:
            yield fail(
                item,
                "prompt-limit-ignored",
                "a prompt of more tokens than --max-tokens-in is served",
                expected="4xx or an error event",
            )
            continue
        for short in recording.labelled("short prompt"):
            served = stream_of(short).terminal
            if served is not None and served.kind == "end":
                yield ok(item)
                yield ok(short)
            else:
                yield fail(
                    short, "short-prompt-refused", "a prompt within --max-tokens-in is not served", expected="end"
                )


@judge("M0-W-1101/max-tokens-out")
def max_tokens_out(recording: Recording) -> Findings:
    """No more token events than the limit, whatever the job asked for."""
    found = _option(recording, "--max-tokens-out")
    for item in _of(recording, "--max-tokens-out", "long answer", "M0-W-1101/max-tokens-out"):
        if isinstance(item, Finding):
            yield item
        elif found is not None and (count := len(stream_of(item).tokens)) > found[1]:
            yield fail(
                item,
                "answer-limit-ignored",
                "a job yields more tokens than --max-tokens-out",
                expected=f"at most {found[1]} tokens",
                actual=f"{count} tokens",
            )
        elif item.status is not None:
            yield ok(item)


@judge("M0-W-1101/inference-timeout")
def inference_timeout(recording: Recording) -> Findings:
    """INFERENCE_TIMEOUT; a job that was over in time shows nothing."""
    found = _option(recording, "--inference-timeout-sec")
    for item in _of(recording, "--inference-timeout-sec", "slow job", "M0-W-1101/inference-timeout"):
        if isinstance(item, Finding):
            yield item
            continue
        stream = stream_of(item)
        lasted = _lasted(stream)
        terminal = stream.terminal
        if terminal is not None and terminal.data.get("code") == "INFERENCE_TIMEOUT":
            yield ok(stream)
        elif found is not None and lasted > 2 * found[1]:
            yield fail(
                stream,
                "timeout-ignored",
                "a job outlasts --inference-timeout-sec without INFERENCE_TIMEOUT",
                expected=f"an error event INFERENCE_TIMEOUT after {found[1]} s",
                actual=f"{'no terminal event' if terminal is None else terminal.text[:120]} after {lasted:.1f} s",
            )


def _lasted(stream: Stream) -> float:
    if stream.started is None:
        return 0.0
    last = stream.terminal or stream.events[-1]
    return last.at - stream.started.at

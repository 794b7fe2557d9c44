"""Judges of broken model files: refused at start, with code, context and words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from m0_conformance.judging import Findings, Json, Launch, Recording, fail, judge, ok, require
from m0_conformance.judging.launches import CODE, complaint, given, log_events, refused, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator


SECONDS = 30.0
"""No clause names a time; what takes longer has read more than a header."""

_REFUSED = (
    "M0-W-1200/other-versions",
    "M0-W-1210/magic",
    "M0-W-1210/tensor-count",
    "M0-W-1210/truncated",
    "M0-W-1210/too-big",
    "M0-W-1211/required-keys",
    "M0-W-1211/hostile-header",
    "M0-W-1212/unknown-refused",
    "M0-W-1214/missing-tensor",
    "M0-W-1362/unknown-pre",
)

_HOSTILE = "M0-W-1211/hostile-header"
_UNKNOWN = "M0-W-1212/unknown-refused"


def _broken(recording: Recording) -> Iterator[tuple[Launch, dict[str, Json]]]:
    for label, case in recording.facts.get("broken files", {}).items():
        launch = recording.launch(label)
        if launch is not None:
            yield launch, case


def _failed(recording: Recording) -> Iterator[tuple[Launch, dict[str, Json]]]:
    """Those that really ended without serving; how the others fail is for the clause of their file."""
    return ((launch, case) for launch, case in _broken(recording) if refused(launch))


@judge(*_REFUSED)
def refuses(recording: Recording) -> Findings:
    """The process ends by itself without having served. A header that fits no file must not crash it either."""
    for launch, case in _broken(recording):
        clause = case["clause"]
        if not refused(launch):
            yield fail(
                launch,
                "broken-file-accepted",
                f"a file is not refused: {case['wrong']}",
                expected="the start fails",
                clause=clause,
            )
        elif clause == _HOSTILE and launch.exit_code is not None and launch.exit_code < 0:
            yield fail(
                launch,
                "crash",
                f"a hostile header kills the worker: {case['wrong']}",
                expected="a refusal",
                clause=clause,
            )
        elif clause in {_HOSTILE, "M0-W-1210/too-big"} and (launch.exited_at or 0.0) > SECONDS * scale_of(recording):
            yield fail(
                launch,
                "slow-refusal",
                f"a file is refused only after much work: {case['wrong']}",
                expected=f"within {SECONDS:g} s",
                clause=clause,
            )
        elif clause == _UNKNOWN and _said(recording, launch) and not _names(recording, launch, case["words"]):
            yield fail(
                launch,
                "architecture-not-named",
                "the message about an unknown architecture does not hold its name",
                expected=case["words"][0],
                actual=_tail(complaint(recording, launch)),
                clause=clause,
            )
        else:
            yield ok(launch, clause=clause)


def _said(recording: Recording, launch: Launch) -> bool:
    """Something was written about the failure; that nothing was is M0-W-1111/message."""
    return bool(complaint(recording, launch).strip())


def _names(recording: Recording, launch: Launch, words: list[str]) -> bool:
    text = complaint(recording, launch).lower()
    return any(word.lower() in text for word in words)


def _tail(text: str) -> str:
    return text[-200:] or "no output"


@judge("M0-W-1210/exit-one")
def exit_one(recording: Recording) -> Findings:
    """Exactly 1. Exit code 0 is M0-W-1111/exit-code, a crash on a hostile header is M0-W-1211/hostile-header."""
    for launch, case in _failed(recording):
        code = launch.exit_code
        if code == 1:
            yield ok(launch)
        elif code != 0 and not (case["clause"] == _HOSTILE and code is not None and code < 0):
            yield fail(
                launch,
                "exit-code-not-one",
                f"a refused file ends the start with another code than 1: {case['wrong']}",
                expected="exit code 1",
            )


@judge("M0-W-1210/says-what")
def says_what(recording: Recording) -> Findings:
    """A word for the property in question, where the file has one fault that has a name."""
    for launch, case in _failed(recording):
        if not case["words"] or case["clause"] == _UNKNOWN or not _said(recording, launch):
            continue
        yield require(
            _names(recording, launch, case["words"]),
            launch,
            "property-not-named",
            f"the message does not say what is wrong: {case['wrong']}",
            expected=" or ".join(case["words"]),
            actual=_tail(complaint(recording, launch)),
        )


@judge("M0-W-1111/exit-code")
def exit_code(recording: Recording) -> Findings:
    """A failed start never looks like a finished life."""
    for launch, case in _failed(recording):
        yield require(
            launch.exit_code != 0,
            launch,
            "exit-code-zero",
            f"a failed start ends with exit code 0: {case['wrong']}",
            expected="exit code other than 0",
        )


@judge("M0-W-1111/message")
def message(recording: Recording) -> Findings:
    """On stderr: a sentence and a code in capitals with underscores."""
    for launch, case in _failed(recording):
        if case["clause"] == _HOSTILE:  # a crash has no message; it is judged there
            continue
        text = "\n".join(line.text for line in launch.lines if line.stream == "stderr")
        words = re.findall(r"[A-Za-z]{2,}", text)
        yield require(
            CODE.search(text) and len(words) >= 3,
            launch,
            "no-message" if not text.strip() else "no-code",
            f"stderr holds no message with an error code: {case['wrong']}",
            expected="a sentence and a code such as MODEL_LOAD_FAILED on stderr",
            actual=_tail(text),
        )


@judge("M0-W-1111/context")
def context(recording: Recording) -> Findings:
    """Path and device number in an error event or a plain line."""
    for launch, case in _failed(recording):
        known = given(recording, launch)
        if not known or not _said(recording, launch) or case["clause"] == _HOSTILE:
            continue
        text = "\n".join(
            line.text
            for line in launch.lines
            if line.stream == "stderr" or not line.text.lstrip().startswith("{") or '"error"' in line.text
        )
        name = str(known["model"]).rpartition("/")[2]
        number = known.get("gpu_device")
        device = number is None or re.search(rf"(?i)(?:gpu|device)\D{{0,24}}{number}\b", text)
        missing = [what for what, there in (("model path", name in text), ("device number", device)) if not there]
        yield require(
            not missing,
            launch,
            "context-missing",
            f"what is logged about a failed start lacks {' and '.join(missing)}",
            expected="model path and device number",
            actual=_tail(text),
        )


@judge("M0-W-1410/load-failed-code")
def load_failed_code(recording: Recording) -> Findings:
    """MODEL_LOAD_FAILED for wrong magic and version; that there is a code at all is M0-W-1111/message."""
    for launch, case in _failed(recording):
        if case["clause"] not in {"M0-W-1210/magic", "M0-W-1200/other-versions"}:
            continue
        codes = set(CODE.findall(complaint(recording, launch)))
        if "MODEL_LOAD_FAILED" in codes:
            yield ok(launch)
        elif codes:
            yield fail(
                launch,
                "other-code",
                "a file with the wrong magic or version is reported under another code",
                expected="MODEL_LOAD_FAILED",
                actual=", ".join(sorted(codes)),
            )


@judge("M0-W-1900/error")
def error_event(recording: Recording) -> Findings:
    """An event named error in the log of a failed start."""
    for launch, case in _failed(recording):
        if case["clause"] == _HOSTILE:
            continue
        yield require(
            log_events(launch, "error"),
            launch,
            "no-error-event",
            f"a failed start logs no event error: {case['wrong']}",
            expected="event error",
            actual=", ".join(event.name for event in log_events(launch)) or "no events",
        )

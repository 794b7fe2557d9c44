"""Judges of stop strings: where the text ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judging import Findings, Recording, Stream, fail, judge, note, ok, require, streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.recording.transcript import Json

BROKEN = "\ufffd"
LAST_PIECE = 8
"""Characters of a token at the end of a text."""


def _plain(recording: Recording, stream: Stream) -> str | None:
    """The text of the same request without stop strings; where nothing else was asked, of the same prompt."""
    others = [
        other
        for other in streams(recording, "unstopped")
        if other.request.get("prompt") == stream.request.get("prompt")
        and other.terminal is not None
        and other.terminal.kind == "end"
    ]
    same = [other for other in others if _but_stop(other) == _but_stop(stream)]
    texts = [other.text for other in same or others[:1]]
    # A text that does not repeat itself is for the clauses of reproducibility, one with broken characters for those of
    # text; nothing can be compared with them.
    return texts[0] if len(set(texts)) == 1 and BROKEN not in texts[0] else None


def _but_stop(stream: Stream) -> dict[str, Json]:
    return {name: value for name, value in stream.request.items() if name not in {"job_id", "stop"}}


def _cases(recording: Recording, *labels: str) -> Iterator[tuple[Stream, str, str, int]]:
    """Stopped streams that came to an end event: stream, unstopped text, stop string that comes first, its place."""
    for label in labels:
        for stream in streams(recording, label):
            plain = _plain(recording, stream)
            if plain is None or stream.terminal is None or stream.terminal.kind != "end":
                continue
            found = [(plain.find(stop), stop) for stop in stream.request.get("stop") or [] if stop in plain]
            if found:
                at, stop = min(found)
                yield stream, plain, stop, at


def _stopped(stream: Stream, stop: str, at: int) -> bool:
    """Nothing comes after the first stop string."""
    return len(stream.text) <= at + len(stop)


def _judge_stop(recording: Recording, label: str, key: str, message: str) -> Findings:
    for stream, plain, stop, at in _cases(recording, label):
        if _stopped(stream, stop, at):
            yield ok(stream)
            sent = "sent" if stream.text.endswith(stop) else "not sent"
            yield note(stream, "stop-text", f"the matched stop string is {sent}", reading=("E-STOP2", sent))
        else:
            yield fail(
                stream,
                key,
                message,
                expected=f"an end at or before {stop!r}: {plain[: at + len(stop)]!r:.160}",
                actual=repr(stream.text)[:160],
            )


@judge("M0-W-1422/stops")
def stops(recording: Recording) -> Findings:
    """One stop string that consists of whole tokens' text, taken from the target's own words."""
    yield from _judge_stop(recording, "stopped", "stop-ignored", "text comes after the stop string")


@judge("M0-W-1422/across-tokens")
def across_tokens(recording: Recording) -> Findings:
    """A stop string whose ends lie inside tokens."""
    yield from _judge_stop(
        recording, "stopped across", "stop-missed-across-tokens", "a stop string across tokens does not end the job"
    )


@judge("M0-W-1422/earliest-of-four")
def earliest_of_four(recording: Recording) -> Findings:
    """The first in the text wins, not the first in the list."""
    yield from _judge_stop(
        recording, "earliest", "later-stop-won", "the stop string that occurs first does not end the job"
    )


@judge("M0-W-1422/keeps-prefix")
def keeps_prefix(recording: Recording) -> Findings:
    """All text before the stop string, unchanged."""
    for stream, plain, stop, at in _cases(recording, "stopped", "stopped across", "earliest"):
        if not _stopped(stream, stop, at) or BROKEN in stream.text:
            continue
        yield require(
            stream.text in (plain[:at], plain[: at + len(stop)])
            or (len(stream.text) > at and plain.startswith(stream.text)),
            stream,
            "text-before-stop-damaged",
            "the text before the stop string is not what it is without one",
            expected=repr(plain[:at])[:160],
            actual=repr(stream.text)[:160],
        )


@judge("M0-W-1422/absent-string")
def absent_string(recording: Recording) -> Findings:
    """The same text with and without."""
    for stream in streams(recording, "absent"):
        plain = _plain(recording, stream)
        if plain is None or stream.terminal is None or stream.terminal.kind != "end" or BROKEN in stream.text:
            continue
        cut = len(plain) - len(stream.text)
        last = plain.startswith(stream.text) and 0 < cut <= LAST_PIECE
        if last or (cut < 0 and stream.text.startswith(plain)):
            continue  # a last piece that comes and goes, or a twin that ended early: faults of their own
        yield require(
            stream.text == plain,
            stream,
            "absent-stop-changes-text",
            "stop strings that do not occur change the text",
            expected=repr(plain)[:160],
            actual=repr(stream.text)[:160],
        )

"""How many tokens a job yields: max_tokens in M0-W-1300, and the job without any, M0-W-1311."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judges.answers import finished
from m0_conformance.judges.payloads import is_whole
from m0_conformance.judges.registry import fail, invariant, judge, ok, warn
from m0_conformance.judges.views import Stream, streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding
    from m0_conformance.wire.transcript import Recording

DEFAULT = 2048


def _count(stream: Stream) -> int:
    """Tokens by the worker's own count and by the events: the smaller; a doubled event is end-tokens-out's."""
    told = stream.terminal.data.get("tokens_out") if stream.terminal is not None else None
    return min(told, len(stream.tokens)) if is_whole(told) else len(stream.tokens)


@invariant("M0-W-1300/max-tokens-bound")
def max_tokens_bound(stream: Stream) -> Iterator[Finding]:
    """On every stream of a job that names a legal max_tokens."""
    asked = stream.request.get("max_tokens")
    if not is_whole(asked) or not 1 <= asked <= DEFAULT or not stream.tokens:
        return
    if _count(stream) <= asked:
        yield ok(stream)
    else:
        yield fail(
            stream,
            "too-many-tokens",
            "a job yields more tokens than its max_tokens",
            expected=f"at most {asked}",
            actual=f"{_count(stream)} tokens",
            at=stream.tokens[asked],
        )


@judge("M0-W-1300/max-tokens-reached", "M0-W-1300/max-tokens-default")
def max_tokens_reached(recording: Recording) -> Iterator[Finding]:
    """Jobs of a model that never ends by itself. More tokens than asked for are max-tokens-bound's."""
    for label, clause in (("endless", "M0-W-1300/max-tokens-reached"), ("long", "M0-W-1300/max-tokens-default")):
        for stream in streams(recording, label):
            if stream.terminal is None or (label == "long" and not recording.facts.get("endless")):
                continue
            asked = stream.request.get("max_tokens", DEFAULT)
            told = stream.terminal.data.get("tokens_out")
            reached = asked in {len(stream.tokens), told}
            if stream.terminal.kind == "end" and reached:
                yield ok(stream, clause=clause)
            elif stream.terminal.kind != "end" or _count(stream) < asked or label == "long":
                yield fail(
                    stream,
                    "not-max-tokens",
                    "a job that nothing else ends does not yield exactly max_tokens tokens",
                    expected=f"{asked} tokens, then end",
                    actual=f"{_count(stream)} tokens, then {stream.terminal.kind}",
                    at=stream.terminal,
                    clause=clause,
                )


@judge("M0-W-1300/max-tokens-prefix")
def max_tokens_prefix(recording: Recording) -> Iterator[Finding]:
    """A cut of the longer text, which was the same both times it was asked for."""
    longer = [stream for stream in streams(recording, "longer") if finished(stream)]
    if len(longer) < 2 or any(stream.pieces != longer[0].pieces for stream in longer):
        return
    for stream in streams(recording, "shorter"):
        if not finished(stream):
            continue
        if longer[0].text.startswith(stream.text.rstrip("\ufffd")):
            yield ok(stream)
        else:
            yield fail(
                stream,
                "not-a-prefix",
                "at temperature 0 a smaller max_tokens yields other tokens",
                expected=repr(longer[0].pieces[: len(stream.tokens)])[:160],
                actual=repr(stream.pieces)[:160],
            )


@judge("M0-W-1311/no-tokens")
def no_tokens(recording: Recording) -> Iterator[Finding]:
    """A model that ends at once. Text after the end of sequence is M0-W-1362's."""
    for stream in streams(recording, "ends at once"):
        if stream.terminal is None or stream.text:
            continue
        told = stream.terminal.data.get("tokens_out")
        if stream.terminal.kind == "error":
            yield fail(
                stream,
                "error-without-tokens",
                "a job whose model ends at once is ended by an error",
                expected="started, then end with tokens_out 0",
                actual=stream.terminal.text[:160],
                at=stream.terminal,
            )
        elif stream.tokens:
            yield warn(
                stream, "empty-token", "the end of sequence is sent as an empty token", actual=stream.tokens[0].text
            )
        elif told == 0:
            yield ok(stream)  # another number is end-tokens-out's

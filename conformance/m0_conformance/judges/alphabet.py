"""Characters of prompts and of token texts: M0-W-1362."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judges.answers import taken
from m0_conformance.judges.registry import fail, invariant, judge, ok, warn
from m0_conformance.judges.views import Stream, describe, streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding
    from m0_conformance.wire.transcript import Recording

INTERNAL = frozenset("\u0120\u010a\u0109\u010d")
"""How byte-level vocabularies write space, line feed, tab and carriage return (GPT-2's table of stand-ins)."""


@invariant("M0-W-1362/no-internal-alphabet")
def no_internal_alphabet(stream: Stream) -> Iterator[Finding]:
    """On every stream with text whose prompt does not show those letters itself; one alone may be a Maltese word."""
    text, prompt = stream.text, stream.request.get("prompt")
    if not text.strip() or not isinstance(prompt, str) or INTERNAL & set(prompt):
        return
    shown = [event for event in stream.tokens if INTERNAL & set(str(event.data.get("t")))]
    if not shown:
        yield ok(stream)
        return
    known = stream.recording is not None and stream.recording.settings.get("probe") is not None
    speak = fail if known or len(shown) > 1 else warn
    yield speak(
        stream,
        "internal-alphabet",
        "a token's text shows the vocabulary's stand-ins for bytes",
        expected="the text that the bytes spell",
        actual=repr(shown[0].data.get("t"))[:80],
        at=shown[0],
    )


@judge("M0-W-1362/any-prompt")
def any_prompt(recording: Recording) -> Iterator[Finding]:
    """Each prompt of the battery is accepted and its job ends with `end`."""
    for exchange in recording.labelled("battery"):
        kind = taken(exchange)
        stream = next((one for one in streams(recording, "battery") if one.exchange is exchange), None)
        ending = stream.terminal if stream is not None else None
        if kind == "refused":
            actual = describe(exchange)
        elif ending is not None and ending.kind == "error":
            actual = ending.text[:200]
        else:
            if ending is not None:
                yield ok(exchange)
            continue
        asked = exchange.request_json()
        shown = repr(asked.get("prompt"))[:60] if isinstance(asked, dict) else "?"
        yield fail(
            exchange,
            "prompt-not-served",
            f"the prompt {shown} is not served",
            expected="a stream that ends with end",
            actual=actual,
        )

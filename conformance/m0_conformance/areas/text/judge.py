"""Judges of token bytes become text: characters, end of sequence, any prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.judging import (
    Findings,
    Recording,
    Stream,
    describe,
    fail,
    invariant,
    judge,
    note,
    ok,
    require,
    streams,
    warn,
)
from m0_conformance.judging.answers import taken
from m0_conformance.judging.fields import is_integer
from m0_conformance.judging.rendering import INTERNAL, rendering_of

if TYPE_CHECKING:
    from collections.abc import Iterator


REPLACEMENT = "\ufffd"


def _scripts(recording: Recording) -> Iterator[tuple[Stream, dict[str, Any]]]:
    """Completed streams of the known scripts with their promises."""
    for name, script in (recording.facts.get("scripts") or {}).items():
        for stream in streams(recording, f"script {name}"):
            if stream.terminal is not None and stream.terminal.kind == "end":
                yield stream, script


def _spelled(script: dict[str, Any], tokens: int) -> bytes:
    """The bytes of the first tokens: the script, then its cycle for as long as it takes."""
    pieces = [bytes.fromhex(token) for token in script["tokens"][:tokens]]
    cycle = [bytes.fromhex(token) for token in script["cycle"]]
    while cycle and len(pieces) < tokens:
        pieces += cycle[: tokens - len(pieces)]
    return b"".join(pieces)


def _whole(data: bytes) -> str:
    """As text, without a character that is cut off at the end."""
    for cut in range(4):
        head = data[: len(data) - cut]
        try:
            return head.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                break
    return data.decode("utf-8", "replace")


def _asked(stream: Stream) -> int:
    return int(stream.request.get("max_tokens") or 0)


@judge("M0-W-1420/next-token")
def next_token(recording: Recording) -> Findings:
    """The scripts of plain words: a wrong next token shows as another word."""
    for stream, script in _scripts(recording):
        if script["name"] not in {"words", "eos", "stop"}:
            continue
        expected = rendering_of(recording).worn(_spelled(script, _asked(stream)).decode())
        said = rendering_of(recording).worn(stream.text)
        # Too short a text, or one that goes on after the end, is for text-exact and the end-of-sequence clauses.
        yield require(
            said.strip() and (expected.startswith(said.rstrip()) or said.startswith(expected)),
            stream,
            "wrong-next-token",
            "the text is not the one that the model's weights spell",
            expected=repr(expected[:120]),
            actual=repr(said[:120]),
        )


@judge("M0-W-1362/text-exact")
def text_exact(recording: Recording) -> Findings:
    """Joined texts of the scripts without broken bytes, cut where max_tokens cuts."""
    rendering = rendering_of(recording)
    for stream, script in _scripts(recording):
        if script["name"] in {"invalid", "cut"} or REPLACEMENT in stream.text:
            continue
        if (rendering.separator or rendering.lost) and len(stream.tokens) > 1:
            yield fail(
                stream,
                "spaces-between-tokens" if rendering.separator else "spaces-lost",
                "a space is put between tokens" if rendering.separator else "the spaces of tokens are lost",
                expected=repr(_whole(_spelled(script, _asked(stream)))[:60]),
                actual=repr("".join(stream.sent)[:60]),
            )
            continue
        expected = _whole(_spelled(script, _asked(stream)))
        said = stream.text
        if said == expected:
            yield ok(stream)
        elif said.startswith(expected) and script["ends"] == "eos":
            continue  # what follows the end of sequence is for eos-ends and eos-silent
        else:
            at = next(
                (i for i, (a, b) in enumerate(zip(expected, said, strict=False)) if a != b),
                min(len(expected), len(said)),
            )
            yield fail(
                stream,
                "text-differs",
                f"the joined text differs from what the tokens spell, first at character {at}",
                expected=repr(expected[max(0, at - 20) : at + 40]),
                actual=repr(said[max(0, at - 20) : at + 40]),
            )


@judge("M0-W-1362/holds-incomplete")
def holds_incomplete(recording: Recording) -> Findings:
    """In the scripts of cut characters no t holds a part of one."""
    for stream, script in _scripts(recording):
        if script["name"] not in {"utf8", "joined"}:
            continue
        broken = next((event for event in stream.tokens if _is_broken(event.data.get("t"))), None)
        yield require(
            broken is None,
            stream,
            "part-of-a-character",
            "a token event holds a part of a character",
            expected="whole characters only, held back until they are complete",
            actual=repr(broken.data.get("t")) if broken is not None else "",
            at=broken,
        )


def _is_broken(text: object) -> bool:
    return isinstance(text, str) and (REPLACEMENT in text or any("\ud800" <= letter <= "\udfff" for letter in text))


@judge("M0-W-1362/invalid-byte")
def invalid_byte(recording: Recording) -> Findings:
    """All words around the broken bytes arrive, in order."""
    for stream, script in _scripts(recording):
        if script["name"] != "invalid" or not stream.tokens:
            continue
        words = [word for word in _spelled(script, len(script["tokens"])).decode("utf-8", "ignore").split() if word]
        rest = stream.text
        missing = ""
        for word in words:
            _, found, rest = rest.partition(word)
            if not found:
                missing = word
                break
        yield require(
            not missing,
            stream,
            "blocked-by-invalid-byte",
            f"the word {missing!r} after a byte that can never become a character is missing",
            expected=" … ".join(words),
            actual=repr(stream.text[:120]),
        )


def _end_as_text(recording: Recording) -> str:
    """How this worker shows the end of sequence, by the script of plain words; "" where it does not."""
    for stream, script in _scripts(recording):
        if script["name"] == "eos":
            expected = _whole(_spelled(script, _asked(stream)))
            return stream.text.removeprefix(expected) if stream.text.startswith(expected) else ""
    return ""


@judge("M0-W-1362/unfinished-at-end")
def unfinished_at_end(recording: Recording) -> Findings:
    """The cut character is dropped; a final U+FFFD is tolerated when the user asked for lenient readings (E-UTF8)."""
    lenient = recording.settings.get("disputes") != "strict"
    cut = [(s, _spelled(script, _asked(s))) for s, script in _scripts(recording) if script["name"] == "cut"]
    utf8 = (recording.facts.get("scripts") or {}).get("utf8")
    ended = (s for s in streams(recording, "cut by max_tokens") if s.terminal is not None and s.terminal.kind == "end")
    cut += [(stream, _spelled(utf8, _asked(stream))) for stream in ended if utf8]
    shown = _end_as_text(recording)
    for stream, data in cut:
        expected, said = rendering_of(recording).worn(_whole(data)), rendering_of(recording).worn(stream.text)
        if shown:
            said = said.removesuffix(shown)  # which is eos-silent's
        if said == expected:
            yield ok(stream)
        elif said == expected + REPLACEMENT and lenient:
            yield ok(stream)
            yield note(
                stream, "flushed-as-replacement", "a cut character is flushed as U+FFFD", reading=("E-UTF8", "flushed")
            )
        elif said.startswith(expected):
            yield fail(
                stream,
                "unfinished-character-shown",
                "a character that the job's end cuts in two appears in the text",
                expected=repr(expected),
                actual=repr(stream.text),
                at=stream.tokens[-1] if stream.tokens else None,
            )


@judge("M0-W-1362/eos-ends")
def eos_ends(recording: Recording) -> Findings:
    """The scripts that end: fewer tokens than asked for, and end."""
    for stream, script in _scripts(recording):
        if script["ends"] != "eos":
            continue
        told = stream.terminal.data.get("tokens_out") if stream.terminal is not None else None
        made = max(len(stream.tokens), told if is_integer(told) else 0)  # a piece that was held back is a token, too
        yield require(
            made < _asked(stream),
            stream,
            "ran-past-end-of-sequence",
            "the job went on after the model's end-of-sequence token",
            expected=f"end after {len(script['tokens'])} tokens",
            actual=f"{made} tokens",
        )


@judge("M0-W-1362/eos-silent")
def eos_silent(recording: Recording) -> Findings:
    """Nothing follows the last word of a script that ends."""
    for stream, script in _scripts(recording):
        if script["ends"] != "eos" or script["name"] == "cut" or len(stream.tokens) >= _asked(stream):
            continue
        worn = rendering_of(recording).worn
        expected, said = worn(_whole(_spelled(script, _asked(stream)))), worn(stream.text)
        if said == expected:
            yield ok(stream)
        elif said.startswith(expected):
            yield fail(
                stream,
                "end-of-sequence-shown",
                "the end-of-sequence token appears as text",
                expected=repr(expected),
                actual=repr(stream.text),
                at=stream.tokens[-1] if stream.tokens else None,
            )


@judge("M0-W-1824/no-replacement")
def no_replacement(recording: Recording) -> Findings:
    """Neither U+FFFD nor a lost character in multi-byte scripts."""
    for name in ("utf8", "joined"):
        for stream in streams(recording, f"multibyte {name}"):
            if stream.terminal is None or not stream.text:
                continue
            yield require(
                not any(_is_broken(piece) for piece in stream.pieces),
                stream,
                "replacement-character",
                "text of multi-byte characters holds a replacement character",
                expected="no U+FFFD",
                actual=repr(stream.text),
            )


@invariant("M0-W-1362/no-internal-alphabet")
def no_internal_alphabet(stream: Stream) -> Findings:
    """On every stream with text whose prompt does not show those letters itself; one alone may be a Maltese word."""
    text, prompt = "".join(stream.sent), stream.request.get("prompt")
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
def any_prompt(recording: Recording) -> Findings:
    """Each prompt of the battery is accepted and its job ends with `end`."""
    for exchange in recording.labelled("battery"):
        kind = taken(exchange)
        stream = next((one for one in streams(recording, "battery") if one.exchange is exchange), None)
        ending = stream.terminal if stream is not None else None
        if kind == "refused" or (exchange.status is None and exchange.end == "reset"):  # the worker broke off
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

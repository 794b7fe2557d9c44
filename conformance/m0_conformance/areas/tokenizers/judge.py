"""Judges of tokenizers: the prompt said again, its text and where one event ends and the next begins."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final

from m0_conformance.contract import parse_json
from m0_conformance.judging.fields import is_integer
from m0_conformance.judging.judge import first_broken, judge
from m0_conformance.judging.rendering import rendering_of
from m0_conformance.judging.streams import stream_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from m0_conformance.judging.finding import Finding
    from m0_conformance.judging.streams import Stream
    from m0_conformance.recording.transcript import Json, Recording

CLAUSES: Final[dict[str, tuple[str, ...]]] = {
    "qwen2": ("M0-W-1363/vectors",),
    "llama-bpe": ("M0-W-1363/vectors",),
    "gpt-2": ("M0-W-1363/vectors",),
    "phi-3": ("M0-W-1363/vectors",),
    "gpt-4o": ("M0-W-1361/vectors", "M0-W-1361/properties", "M0-W-1821/gpt-oss-vectors"),
}
"""Echo probe to the clauses that it shows."""
_VECTORS: Final = ("M0-W-1363/vectors", "M0-W-1361/vectors", "M0-W-1821/gpt-oss-vectors")


def _vectors(recording: Recording) -> Iterator[tuple[dict[str, Json], Stream]]:
    for number, vector in enumerate(recording.facts.get("echo", {}).get("vectors", ())):
        for exchange in recording.labelled(f"vector {number}"):
            stream = stream_of(exchange)
            if stream.terminal is not None and stream.terminal.kind == "end":
                yield vector, stream


def whole(raw: bytes) -> bytes:
    """The bytes up to the last complete character: what a stream may have shown of them."""
    return raw.decode("utf-8", "ignore").encode() if not raw or raw[-1] >= 0x80 else raw


def cuts(pieces: Sequence[bytes]) -> tuple[set[int], set[int]]:
    """Byte offsets at which an event must end, and those at which it may.

    A token's event ends with it, unless its last character is incomplete; then what is complete may come before, and
    the rest with the next token.
    """
    text = b"".join(pieces)
    ends = list(accumulate(map(len, pieces)))
    complete = {len(whole(text[:end])) for end in ends}
    return {end for end in ends if end in complete}, complete


@judge(*_VECTORS)
def said_again(recording: Recording) -> Iterator[Finding]:
    """The text is the prompt's, cut where the prompt's tokens are."""
    for vector, stream in _vectors(recording):
        pieces = [bytes.fromhex(piece) for piece in vector["pieces"]]
        if rendering_of(recording).lost:
            return  # where its cuts were cannot be told without the spaces
        wanted = whole(b"".join(pieces))
        heard = [piece.encode() for piece in stream.pieces if piece]
        must, may = cuts(pieces)
        seen = set(accumulate(map(len, heard)))
        inside = {end for end in must if 0 < end < len(wanted)}
        what = f"{vector['category']}: {vector['description']}"
        for clause in _VECTORS:
            if clause in recording.clauses:
                yield first_broken(
                    stream,
                    (
                        b"".join(heard) == wanted,
                        "other-text",
                        f"the prompt's tokens are not those of the text ({what})",
                        repr(wanted.decode("utf-8", "replace"))[:120],
                        repr(stream.text)[:120],
                    ),
                    (
                        inside <= seen <= may | {len(wanted)},
                        "other-cut",
                        f"the prompt is cut into other tokens ({what})",
                        _cut(pieces),
                        _cut(heard),
                    ),
                    clause=clause,
                )


def _cut(pieces: Sequence[bytes]) -> str:
    return " | ".join(repr(piece.decode("utf-8", "replace"))[1:-1] for piece in pieces if piece)[:200]


@judge("M0-W-1361/properties")
def properties(recording: Recording) -> Iterator[Finding]:
    """/health knows the vocabulary's size; a prompt's end of sequence, said again, ends the job."""
    promise = recording.facts.get("echo", {})
    for exchange in recording.labelled("health"):
        body = parse_json(exchange.body).value if exchange.status == 200 else None
        # A field that is missing or no number is M0-W-1320's.
        if isinstance(body, dict) and "vocab" in promise and is_integer(body.get("vocab_size")):
            # The file has a vocabulary of its own too: which backend reads it is the worker's choice.
            wanted = {"vocab_size": promise["vocab"]}
            yield first_broken(
                exchange,
                *(
                    (
                        body.get(field) == value,
                        field.replace("_", "-"),
                        f"{field} is not the file's",
                        str(value),
                        str(body.get(field)),
                    )
                    for field, value in wanted.items()
                ),
            )
    for vector, stream in _vectors(recording):
        if vector["ends"]:
            tokens = stream.terminal.data.get("tokens_out") if stream.terminal is not None else None
            budget = stream.request.get("max_tokens")
            yield first_broken(
                stream,
                (
                    tokens != budget,
                    "runs-past-the-end",
                    "a job does not end at the vocabulary's end of sequence",
                    f"fewer than {budget} tokens",
                    f"{tokens} tokens",
                ),
            )

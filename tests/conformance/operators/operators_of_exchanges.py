"""Operators on whole exchanges: status, headers, times, ends, plain bodies, exchanges that trade places."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from m0_conformance.judging.streams import is_execute, stream_of
from m0_conformance.recording.transcript import Chunk, Exchange, Recording
from transcript_edits import Sites, edited, json_object, on_exchanges, operator, place, put, streams, with_body, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from operators_of_events import Variants

HEALTH = (
    "status", "model", "uptime_seconds", "resident", "vram_bytes_used", "vocab_size", "context_length", "quant_kind",
    "tokenizer_kind",
)  # fmt: skip
REFUSAL = ("code",)


@on_exchanges("change-status")
def change_status(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - the signature of the kind
    for status in (200, 202, 204, 302, 400, 404, 422, 500, 503):
        if status != exchange.status:
            yield str(status), replace(exchange, status=status)


def _with_content_type(exchange: Exchange, *values: str) -> Exchange:
    kept = [(name, value) for name, value in exchange.headers if name.lower() != "content-type"]
    return replace(exchange, headers=[*kept, *(("content-type", value) for value in values)])


@on_exchanges("change-content-type")
def change_content_type(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    mine = exchange.header("content-type")
    if mine is None:
        return
    yield "none", _with_content_type(exchange)
    for other in ("text/plain", "application/json", "text/event-stream", "text/html; charset=utf-8"):
        if not mine.startswith(other):
            yield other, _with_content_type(exchange, other)


@on_exchanges("no-answer")
def no_answer(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    for end in ("reset", "refused", "timeout", "garbage"):
        yield end, replace(exchange, status=None, headers=[], head=b"", head_at=None, chunks=[], end=end, error=end)


@on_exchanges("broken-end")
def broken_end(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    if exchange.end == "eof":
        late = (exchange.closed_at or 0.0) + 30.0
        yield "reset", replace(exchange, end="reset", error="closed in the middle of a message")
        yield "timeout", replace(exchange, end="timeout", error="nothing ended it", closed_at=late)
        yield "surplus", replace(exchange, error="12 bytes after the end of the message")
        yield "late", replace(exchange, closed_at=late)


@on_exchanges("late-answer")
def late_answer(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    """Six seconds between the request and anything of the answer."""
    if exchange.status is not None:
        yield (
            "",
            replace(
                exchange,
                head_at=(exchange.head_at or 0.0) + 6.0,
                chunks=[Chunk(chunk.at + 6.0, chunk.data) for chunk in exchange.chunks],
                closed_at=(exchange.closed_at or 0.0) + 6.0,
            ),
        )


@on_exchanges("late-terminal")
def late_terminal(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    if not is_execute(exchange) or exchange.status != 200:
        return
    terminal = stream_of(exchange).terminal
    if terminal is not None:
        head, tail = terminal.raw.byte, exchange.body[terminal.raw.byte :]
        cut = edited(exchange, (head, len(exchange.body), b""))
        late = terminal.at + 6.0
        yield "", replace(cut, chunks=[*cut.chunks, Chunk(late, tail)], closed_at=late)


@on_exchanges("body")
def body(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    if exchange.status is None or not exchange.body:
        return
    for what, data in {
        "empty": b"",
        "text": b"Something went wrong",
        "html": b"<html><body>error</body></html>",
        "cut": exchange.body[: len(exchange.body) // 2],
        "array": b"[]",
        "empty object": b"{}",
        "null": b"null",
        "BOM": b"\xef\xbb\xbf" + exchange.body,
        "latin-1": exchange.body[:-1] + b"\xe9" + exchange.body[-1:],
    }.items():
        yield what, with_body(exchange, data)


@on_exchanges("member")
def member(exchange: Exchange, recording: Recording) -> Variants:  # noqa: ARG001 - an operator's signature
    """Members of a JSON answer removed, renamed, retyped, off by one."""
    value = json_object(exchange)
    if value is None:
        return
    for key in HEALTH if exchange.path == "/health" else REFUSAL:
        if key not in value:
            continue
        old = value[key]
        rest = {name: other for name, other in value.items() if name != key}
        yield f"{key}/removed", with_body(exchange, written(rest))
        yield f"{key}/renamed", with_body(exchange, written({**rest, key.upper(): old}))
        for what, other in {"list": [old], "object": {}, "wrong text": "?"}.items():
            yield f"{key}/{what}", with_body(exchange, written({**rest, key: other}))
        if isinstance(old, str):
            yield f"{key}/empty", with_body(exchange, written({**rest, key: ""}))
            yield f"{key}/number", with_body(exchange, written({**rest, key: 7}))
            yield f"{key}/null", with_body(exchange, written({**rest, key: None}))
        elif isinstance(old, bool):
            yield f"{key}/number", with_body(exchange, written({**rest, key: int(old)}))
            yield f"{key}/null", with_body(exchange, written({**rest, key: None}))
        else:
            yield f"{key}/negative", with_body(exchange, written({**rest, key: -1}))
            yield f"{key}/text", with_body(exchange, written({**rest, key: str(old)}))
            yield f"{key}/true", with_body(exchange, written({**rest, key: True}))


def _answer(exchange: Exchange, other: Exchange) -> Exchange:
    """The request of one, the answer of the other."""
    return replace(
        exchange,
        status=other.status,
        headers=other.headers,
        head=other.head,
        head_at=other.head_at,
        framing=other.framing,
        chunks=other.chunks,
        end=other.end,
        error=other.error,
        closed_at=other.closed_at,
    )


@operator("swap-answers")
def swap_answers(recording: Recording) -> Sites:
    """Two exchanges of one recording get each other's answer."""
    exchanges = recording.exchanges
    for number, first in enumerate(exchanges):
        for second in exchanges[number + 1 : number + 3]:
            if (first.body, first.status) != (second.body, second.status):
                yield (
                    f"{place(first)}/{place(second)}",
                    put(recording, **{first.id: _answer(first, second), second.id: _answer(second, first)}),
                )


def _slow(exchange: Exchange, seconds: float) -> Exchange:
    """The same: its first event at once, the rest of its bytes spread evenly over so many seconds."""
    body, count = exchange.body, 16
    first = stream_of(exchange).events[0].raw.end + 1
    ends = [0, *(first + (len(body) - first) * number // (count - 1) for number in range(count))]
    chunks = [
        Chunk(round(seconds * number / count, 6), body[begin:end])
        for number, (begin, end) in enumerate(itertools.pairwise(ends), 1)
    ]
    return replace(exchange, chunks=chunks, head_at=0.001, closed_at=seconds + 0.01)


@operator("interleave")
def interleave(recording: Recording) -> Sites:
    """A job's stream is spread over a second, and the next one begins while it runs."""
    ended = [stream.exchange for stream in streams(recording) if stream.tokens and stream.terminal is not None]
    for first, second in itertools.pairwise(ended):
        for share in (0.1, 0.5):
            yield (
                f"{place(first)}/{place(second)}/{share}",
                put(
                    recording,
                    **{
                        first.id: _slow(first, 1.0),
                        second.id: replace(_slow(second, 1.0), t0=round(first.t0 + share, 6)),
                    },
                ),
            )


def _texts(recording: Recording) -> Iterator[tuple[Exchange, list[str]]]:
    for stream in streams(recording):
        if len(stream.tokens) > 2 and stream.terminal is not None:
            yield stream.exchange, stream.pieces


@on_exchanges("other-text")
def other_text(exchange: Exchange, recording: Recording) -> Variants:
    """The texts change places inside a stream; the numbers stay in order."""
    if not is_execute(exchange) or exchange.status != 200:
        return
    stream = stream_of(exchange, recording)
    tokens = stream.tokens
    if len(tokens) < 3 or stream.terminal is None:
        return
    pieces = stream.pieces
    for what, others in {"rotated": pieces[1:] + pieces[:1], "reversed": pieces[::-1]}.items():
        if others != pieces:
            splices = []
            for token, text in zip(tokens, others, strict=True):
                low, high = token.raw.byte, token.raw.end + 1
                data = b"event: token\ndata: " + written({**token.data, "t": text}) + b"\n\n"
                splices.append((low, high, data))
            yield what, edited(exchange, *splices)


@on_exchanges("one-token-less")
def one_token_less(exchange: Exchange, recording: Recording) -> Variants:
    """A stream whose numbers fit together, but that lacks its last token, or has one more."""
    if not is_execute(exchange) or exchange.status != 200:
        return
    stream = stream_of(exchange, recording)
    if not stream.tokens or stream.terminal is None or stream.terminal.kind != "end":
        return
    last, end = stream.tokens[-1], stream.terminal
    low, high = last.raw.byte, last.raw.end + 1
    less = {**end.data, "tokens_out": end.data["tokens_out"] - 1}
    more = {**end.data, "tokens_out": end.data["tokens_out"] + 1}
    terminal = (end.raw.byte, end.raw.end + 1)
    yield "less", edited(exchange, (low, high, b""), (*terminal, b"event: end\ndata: " + written(less) + b"\n\n"))
    extra = b"event: token\ndata: " + written({"t": last.data["t"], "i": last.data["i"] + 1}) + b"\n\n"
    yield "more", edited(exchange, (high, high, extra), (*terminal, b"event: end\ndata: " + written(more) + b"\n\n"))

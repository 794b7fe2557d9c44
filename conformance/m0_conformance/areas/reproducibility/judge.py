"""Judges of equal jobs give equal tokens, and no job leaves a trace in the next."""

from __future__ import annotations

from m0_conformance.judging import Findings, Recording, Stream, describe, fail, judge, ok, require, streams


def _ended(recording: Recording, label: str) -> list[Stream]:
    return [s for s in streams(recording, label) if s.terminal is not None and s.terminal.kind == "end"]


def _equal(runs: list[Stream], key: str, message: str) -> Findings:
    """Every run has the token texts of the first, in the same order."""
    if len(runs) < 2 or not runs[0].pieces:
        return
    wanted = runs[0].pieces
    yield ok(runs[0])
    for run in runs[1:]:
        if run.pieces == wanted:
            yield ok(run)
            continue
        index = next((i for i, pair in enumerate(zip(wanted, run.pieces, strict=False)) if pair[0] != pair[1]), -1)
        index = min(len(wanted), len(run.pieces)) if index < 0 else index
        yield fail(
            run,
            key,
            f"{message}, first at token {index}",
            expected=f"{len(wanted)} tokens {''.join(wanted)!r:.120}",
            actual=f"{len(run.pieces)} tokens {run.text!r:.120}",
            at=run.tokens[index] if index < len(run.tokens) else None,
        )


@judge("M0-SYS-2.3.1/greedy-repeat")
def greedy_repeat(recording: Recording) -> Findings:
    """Three runs, other jobs between."""
    yield from _equal(_ended(recording, "greedy 42"), "greedy-differs", "runs at temperature 0 differ")


@judge("M0-W-1826/identical-tokens")
def identical_tokens(recording: Recording) -> Findings:
    """The first two runs, nothing between them."""
    yield from _equal(_ended(recording, "greedy 42")[:2], "tokens-differ", "two runs with seed 42 differ")


@judge("M0-W-1800/completes")
def completes(recording: Recording) -> Findings:
    """Started, a token, end."""
    for exchange in recording.labelled("haiku"):
        if exchange.status != 200:
            yield fail(exchange, "haiku-refused", "the haiku job is refused", expected="a stream")
    for stream in streams(recording, "haiku"):
        if stream.terminal is None:
            continue
        yield require(
            stream.started is not None and stream.tokens and stream.terminal.kind == "end",
            stream,
            "haiku-incomplete",
            "the haiku job does not run from started to end",
            expected="started, at least one token, end",
            actual=", ".join(dict.fromkeys(event.kind for event in stream.events)) or "nothing",
        )


@judge("M0-W-1800/repeats")
def repeats(recording: Recording) -> Findings:
    """Identical token texts at temperature 0.7 with seed 42."""
    yield from _equal(_ended(recording, "haiku"), "haiku-differs", "equal haiku jobs differ")


@judge("M0-SYS-2.3.1/no-leak")
def no_leak(recording: Recording) -> Findings:
    """Only characters of the job's own prompt."""
    for exchange in recording.exchanges:
        if not exchange.label.startswith("memory "):
            continue
        for stream in streams(recording, exchange.label):
            if stream.terminal is None or stream.terminal.kind != "end" or not stream.text:
                continue
            foreign = sorted(set(stream.text) - set(str(stream.request.get("prompt"))))
            if foreign:
                yield fail(
                    stream,
                    "earlier-context-seen",
                    "the model sees what an earlier job's prompt held",
                    expected=f"only {set(str(stream.request.get('prompt')))}",
                    actual=f"{stream.text!r}: {', '.join(foreign)}",
                    at=stream.tokens[0] if stream.tokens else None,
                )
            else:
                yield ok(stream)


@judge("M0-W-1825/context-overflow")
def context_overflow(recording: Recording) -> Findings:
    """A terminal event, or a 4xx or 503 with a body; never silence, never the end of the process."""
    for exchange in recording.labelled("overflow"):
        if exchange.status is not None and exchange.status != 200:
            if exchange.status < 500 or exchange.status == 503:
                yield ok(exchange)
            else:
                yield fail(
                    exchange, "overflow-server-error", "a context that overflows is a server error",
                    expected="a terminal event or a refusal", actual=describe(exchange),
                )  # fmt: skip
        elif exchange.status is None:
            yield fail(
                exchange, "overflow-unanswered", "a job that overflows the context gets no answer",
                expected="a terminal event or a refusal", actual=describe(exchange),
            )  # fmt: skip
    for stream in streams(recording, "overflow"):
        yield require(
            stream.terminal is not None,
            stream,
            "overflow-without-terminal",
            "a job that overflows the context has no terminal event",
            expected="end or error",
            actual=describe(stream.exchange),
        )


@judge("M0-W-1825/recovers")
def recovers(recording: Recording) -> Findings:
    """The same short job before and after."""
    before, after = _ended(recording, "before"), recording.exchange("after")
    if not before or after is None:
        return
    again = next(iter(_ended(recording, "after")), None)
    if again is not None and again.pieces == before[0].pieces:
        yield ok(again)
    else:
        yield fail(
            after,
            "not-recovered",
            "after a context overflow the next job does not yield what it yields otherwise",
            expected=repr(before[0].text)[:120],
            actual=describe(after) if again is None else repr(again.text)[:120],
        )

"""Judges of a job from its first to its last token: length, pace, /health meanwhile, one model for life."""

from __future__ import annotations

from m0_conformance.judging import (
    Exchange,
    Findings,
    Recording,
    Stream,
    describe,
    fail,
    invariant,
    judge,
    ok,
    require,
    streams,
    unsure,
    warn,
)
from m0_conformance.judging.answers import finished, health_body, is_health, killed_by_us
from m0_conformance.judging.fields import is_integer
from m0_conformance.judging.streams import lifetime, together

HEALTH_S = 1.0
GRACE_S = 0.02
"""A request needs a moment to become a job."""
INCREMENTAL_S = 0.05
"""Below this, arrival times are the harness's own: some fifty times its usual round trip."""
"""A generation shorter than this is no long one: replay and stream cannot be told apart."""


def _scale(recording: Recording) -> float:
    return float(recording.settings.get("timing_scale") or 1.0)


def _made_tokens(stream: Stream) -> tuple[float, float] | None:
    """When it was surely making tokens; where all are sent at the end, from the request until they came."""
    window = lifetime(stream) if stream.tokens else None
    if window is None or not together(stream.recording):
        return window
    return stream.exchange.t0 + (stream.exchange.sent_at or 0.0) + GRACE_S, window[0]


@judge("M0-W-1320/while-generating")
def while_generating(recording: Recording) -> Findings:
    """Every GET /health sent while tokens were being made is answered within a second."""
    windows = [window for stream in streams(recording, "long") if (window := _made_tokens(stream)) is not None]
    limit = HEALTH_S * _scale(recording)
    late: list[Exchange] = []
    prompt: list[Exchange] = []
    for exchange in recording.labelled("meanwhile"):
        sent = exchange.t0 + (exchange.sent_at or 0.0)
        window = next((one for one in windows if one[0] < sent < one[1]), None)
        if window is None:
            continue
        answered = exchange.head_at
        if answered is None or answered > limit:
            late.append(exchange)
        elif exchange.t0 + answered <= window[1]:
            prompt.append(exchange)
        elif together(recording) and window[1] - sent > 0.25 * (window[1] - window[0]) + 0.05:
            late.append(exchange)  # with the job's end as late as that, it waited for it
    for exchange in late:
        yield fail(
            exchange,
            "health-waits",
            "GET /health is not answered while a job runs",
            expected=f"an answer within {limit:g} s, while the job runs",
            actual=describe(exchange)
            if exchange.head_at is None
            else f"after {exchange.head_at:.2f} s" + (", when the job was over" if exchange.head_at <= limit else ""),
        )
    for exchange in prompt:
        yield ok(exchange)
    if windows and not late and not prompt:
        yield unsure(recording, "generation-too-short", "no GET /health was sent and answered during the generation")


@judge("M0-SYS-6.3.1/incremental")
def incremental(recording: Recording) -> Findings:
    """The first token's arrival as a share of the whole time; the best of the long jobs counts."""
    shares: list[tuple[float, Stream]] = []
    for stream in streams(recording, "long"):
        if stream.terminal is None or len(stream.tokens) < 20 or stream.terminal.at < INCREMENTAL_S:
            continue
        shares.append((stream.tokens[0].at / stream.terminal.at, stream))
    if not shares:
        return
    share, best = min(shares, key=lambda pair: pair[0])
    if share < 0.5:
        yield ok(best, f"first token after {share:.0%} of the time")
    else:
        yield fail(
            best,
            "replayed",
            "the tokens arrive together after the generation instead of while it runs",
            expected="the first token before half of the total time",
            actual=f"after {share:.0%}: {best.tokens[0].at:.2f} of {best.terminal.at if best.terminal else 0.0:.2f} s",
            at=best.tokens[0],
        )


@judge("M0-SYS-6.3.1/valid-job-ends")
def valid_job_ends(recording: Recording) -> Findings:
    """Ordinary jobs, undisturbed. A stream without a terminal event is M0-W-1311's."""
    for stream in streams(recording, "ordinary"):
        if finished(stream):
            yield ok(stream)
        elif stream.terminal is not None and not killed_by_us(stream):
            yield fail(
                stream,
                "valid-job-fails",
                "a valid job on a healthy worker ends with an error",
                expected="end",
                actual=stream.terminal.text[:200],
                at=stream.terminal,
            )


@judge("M0-W-1001/model-constant")
def model_constant(recording: Recording) -> Findings:
    """One name in all answers of /health, one in all started events; that both agree is M0-W-1312/started-model."""
    told: dict[str, list[tuple[str, Stream | Exchange]]] = {"health": [], "started": []}
    for exchange in recording.exchanges:
        body = health_body(exchange) if is_health(exchange) else None
        if body is not None and isinstance(body.get("model"), str):
            told["health"].append((body["model"], exchange))
    for stream in streams(recording):
        if stream.started is not None and isinstance(stream.started.data.get("model"), str):
            told["started"].append((stream.started.data["model"], stream))
    for names in told.values():
        for name, subject in names:
            if name == names[0][0]:
                yield ok(subject)
            else:
                yield fail(
                    subject,
                    "model-changed",
                    "the worker names another model than before",
                    expected=repr(names[0][0])[:120],
                    actual=repr(name)[:120],
                )
                break


DEFAULT = 2048


def _count(stream: Stream) -> int:
    """Tokens by the worker's own count and by the events: the smaller; a doubled event is end-tokens-out's."""
    told = stream.terminal.data.get("tokens_out") if stream.terminal is not None else None
    return min(told, len(stream.tokens)) if is_integer(told) else len(stream.tokens)


@invariant("M0-W-1300/max-tokens-bound")
def max_tokens_bound(stream: Stream) -> Findings:
    """On every stream of a job that names a legal max_tokens."""
    asked = stream.request.get("max_tokens")
    if not is_integer(asked) or not 1 <= asked <= DEFAULT or not stream.tokens:
        return
    yield require(
        _count(stream) <= asked,
        stream,
        "too-many-tokens",
        "a job yields more tokens than its max_tokens",
        expected=f"at most {asked}",
        actual=f"{_count(stream)} tokens",
        at=next(iter(stream.tokens[asked:]), None),
    )


@judge("M0-W-1300/max-tokens-reached", "M0-W-1300/max-tokens-default")
def max_tokens_reached(recording: Recording) -> Findings:
    """Jobs of a model that never ends by itself. More tokens than asked for are max-tokens-bound's."""
    for label, clause in (("endless", "M0-W-1300/max-tokens-reached"), ("default", "M0-W-1300/max-tokens-default")):
        for stream in streams(recording, label):
            if stream.terminal is None or (label == "default" and not recording.facts.get("endless")):
                continue
            asked = stream.request.get("max_tokens", DEFAULT)
            told = stream.terminal.data.get("tokens_out")
            reached = asked in {len(stream.tokens), told}
            if stream.terminal.kind == "end" and reached:
                yield ok(stream, clause=clause)
            elif stream.terminal.kind != "end" or _count(stream) < asked or label == "default":
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
def max_tokens_prefix(recording: Recording) -> Findings:
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
def no_tokens(recording: Recording) -> Findings:
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

"""Jobs that meet: M0-W-1301, and /health meanwhile, M0-W-1320. Only overlaps that the recording proves count."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from m0_conformance.judges.answers import BUSY, finished, steady
from m0_conformance.judges.health import health_body, is_health
from m0_conformance.judges.order import killed_by_us
from m0_conformance.judges.registry import fail, invariant, judge, note, ok, unsure
from m0_conformance.judges.views import Stream, describe, streams, written_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding
    from m0_conformance.wire.transcript import Exchange, Recording

CLOSE = 0.2
"""Within this share of the time it had to wait, a second job's first event comes at the first one's end."""
HEALTH_S = 1.0
LONG_S = 0.25
INCREMENTAL_S = 0.05
"""Below this, arrival times are the harness's own: some fifty times its usual round trip."""
"""A generation shorter than this is no long one: replay and stream cannot be told apart."""


def _scale(recording: Recording) -> float:
    return float(recording.settings.get("timing_scale") or 1.0)


def _window(stream: Stream) -> tuple[float, float] | None:
    """From the first to the terminal (else the last) event, on the recording's clock."""
    if not stream.events:
        return None
    first, last = stream.events[0], stream.terminal or stream.events[-1]
    return stream.exchange.t0 + first.at, stream.exchange.t0 + last.at


def _never_ran(stream: Stream) -> bool:
    """A waiting job that was cancelled is told so at once (E-CANCEL2)."""
    return not stream.tokens and stream.terminal is not None and stream.terminal.kind == "error"


@invariant("M0-W-1301/no-interleave", on="recording")
def no_interleave(recording: Recording) -> Iterator[Finding]:
    """Of two jobs of one worker that meet, one has its terminal event before the other's first event."""
    hosts: dict[str, list[tuple[float, float, Stream]]] = defaultdict(list)
    for stream in streams(recording):
        window = _window(stream)
        if window is not None and not _never_ran(stream):
            hosts[stream.exchange.host].append((*window, stream))
    for jobs in hosts.values():
        jobs.sort(key=lambda job: job[:2])
        for number, (_, end, first) in enumerate(jobs):
            for begin, _, second in jobs[number + 1 :]:
                asked = second.exchange.t0 + (second.exchange.sent_at or 0.0)
                if asked >= end:
                    continue  # they did not meet
                clock = first.exchange.t0
                if written_after(first, begin - clock, end - clock) and not _ran_before(second, first):
                    yield fail(
                        second,
                        "interleaved",
                        "a second job yields events while the first still runs",
                        expected="no event before the first job's terminal event",
                        actual=f"first event {end - begin:.3f} s before the first job ({first.exchange.id}) was over",
                        at=second.events[0],
                    )
                    return
                if first.terminal is not None and end - begin <= (end - asked) * CLOSE:
                    yield ok(second)


def _ran_before(job: Stream, other: Stream) -> bool:
    """All of a job may have lain ready before the other's first event: the two were only read in the other order."""
    window, others = _window(job), _window(other)
    if window is None or others is None:
        return False
    (begin, end), (other_begin, _) = window, others
    clock, other_clock = job.exchange.t0, other.exchange.t0
    if clock + (job.exchange.sent_at or 0.0) >= other_begin:
        return False  # it was asked for when the other's first event was here
    late = written_after(job, other_begin - clock, end - clock)
    return not late and not written_after(other, other_begin - other_clock, begin - other_clock)


def overlap(first: Stream, second: Exchange) -> bool:
    """The second request was sent before half of the first job's tokens had come: their meeting will show."""
    asked = second.t0 + (second.sent_at or 0.0) - first.exchange.t0
    tokens = first.tokens
    return bool(tokens) and tokens[0].at < asked < tokens[len(tokens) // 2].at


def _met(recording: Recording, first_label: str, second_label: str) -> Iterator[tuple[Stream, Exchange]]:
    """A running job and a request that reached the worker before that job's terminal event."""
    for first in streams(recording, first_label):
        for second in recording.labelled(second_label):
            asked = second.t0 + (second.sent_at or 0.0)
            window = _window(first)
            if window is not None and first.terminal is not None and window[0] < asked < window[1]:
                yield first, second


@judge("M0-W-1301/second-answered")
def second_answered(recording: Recording) -> Iterator[Finding]:
    """Held or refused (E-2ND)."""
    for _, second in _met(recording, "running", "second"):
        if second.status == 200:
            view = next((stream for stream in streams(recording, "second") if stream.exchange is second), None)
            if view is None or not view.events:
                yield fail(
                    second,
                    "second-without-events",
                    "a second job is accepted and then gets no event",
                    expected="its stream after the first one's",
                    actual=describe(second),
                )
                continue
            yield ok(second)
            yield note(second, "second-job", "a second job waits for its turn", reading=("E-2ND", "held"))
        elif second.status in BUSY:
            yield note(second, "second-job", "a second job is refused", reading=("E-2ND", "refused"))
            if second.content_type == "application/json":
                yield ok(second)
            else:
                yield fail(
                    second,
                    "busy-not-json",
                    "a second job is refused without JSON",
                    expected="content-type: application/json",
                    actual=describe(second),
                )
        elif second.status is None or second.status < 500:
            yield fail(
                second,
                "second-job-lost",
                "a second job that comes while one runs is neither held nor refused as busy",
                expected="200 and its stream later, or 503, 429, 409 with JSON",
                actual=describe(second),
            )


@judge("M0-W-1301/solo-equal")
def solo_equal(recording: Recording) -> Iterator[Finding]:
    """Both overlapping jobs against the same jobs alone."""
    for label, alone in (("running", "first alone"), ("second", "second alone")):
        expected = steady(recording, alone)
        for stream in streams(recording, label):
            if expected is None or not finished(stream):
                continue
            if stream.pieces == expected:
                yield ok(stream)
            else:
                yield fail(
                    stream,
                    "overlapping-job-differs",
                    "a job that overlaps with another yields other tokens than alone",
                    expected=repr(expected)[:160],
                    actual=repr(stream.pieces)[:160],
                )


@judge("M0-W-1301/duplicate-active")
def duplicate_active(recording: Recording) -> Iterator[Finding]:
    """E-DUPJOB: any refusal or a second job; the running stream goes on to its own end."""
    for first, second in _met(recording, "running twin", "twin"):
        if second.status is None:
            yield fail(
                second,
                "twin-lost",
                "a job_id that is already running gets no answer",
                expected="4xx, 503, or a job of its own",
                actual=describe(second),
            )
            continue
        if second.status == 200:
            yield note(second, "twin", "an active job_id is a second job", reading=("E-DUPJOB", "second-job"))
        elif 400 <= second.status < 500:
            yield note(second, "twin", "an active job_id is refused", reading=("E-DUPJOB", "refused"))
        elif second.status != 503:
            continue
        expected = steady(recording, "twin alone")
        if finished(first) and (expected is None or first.pieces == expected):
            yield ok(first)
        else:
            yield fail(
                first,
                "running-twin-disturbed",
                "a second request with a running job's job_id disturbs the running stream",
                expected="its tokens, then end",
                actual=f"{len(first.tokens)} tokens, then {first.terminal.kind if first.terminal else 'nothing'}",
                at=first.terminal,
            )


@judge("M0-W-1301/after-disconnect")
def after_disconnect(recording: Recording) -> Iterator[Finding]:
    """The job after a client that hung up in the middle."""
    left = [stream for stream in streams(recording, "abandoned") if stream.tokens and stream.terminal is None]
    expected = steady(recording, "undisturbed")
    if not left or expected is None:
        return
    for exchange in recording.labelled("next"):
        stream = next((one for one in streams(recording, "next") if one.exchange is exchange), None)
        if stream is not None and finished(stream) and stream.pieces == expected:
            yield ok(stream)
        elif exchange.status not in BUSY:
            yield fail(
                exchange,
                "next-job-suffers",
                "after a client hung up, the next job is not served as it should be",
                expected="all its tokens, then end",
                actual=describe(exchange) if stream is None else f"{len(stream.tokens)} tokens: {stream.text[:80]!r}",
            )


@judge("M0-W-1320/while-generating")
def while_generating(recording: Recording) -> Iterator[Finding]:
    """Every GET /health sent while tokens were being made is answered within a second."""
    windows = [window for stream in streams(recording, "long") if stream.tokens and (window := _window(stream))]
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
    for exchange in late:
        yield fail(
            exchange,
            "health-waits",
            "GET /health is not answered while a job runs",
            expected=f"an answer within {limit:g} s",
            actual=describe(exchange) if exchange.head_at is None else f"after {exchange.head_at:.2f} s",
        )
    for exchange in prompt:
        yield ok(exchange)
    if windows and not late and not prompt:
        yield unsure(recording, "generation-too-short", "no GET /health was sent and answered during the generation")


@judge("M0-SYS-6.3.1/incremental")
def incremental(recording: Recording) -> Iterator[Finding]:
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
def valid_job_ends(recording: Recording) -> Iterator[Finding]:
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
def model_constant(recording: Recording) -> Iterator[Finding]:
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

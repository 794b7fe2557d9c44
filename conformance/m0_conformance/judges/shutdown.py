"""SIGTERM: M0-W-1340, and for information M0-W-1630. Idle on the launch "start", busy on the launch "right"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_conformance.judges.launches import how_it_went, scale_of, signalled
from m0_conformance.judges.registry import fail, judge, not_applicable, note, ok
from m0_conformance.judges.views import Stream, describe, stream_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.finding import Finding
    from m0_conformance.wire.transcript import Launch, Recording

IDLE: Final = "start"
BUSY: Final = "right"
IDLE_S: Final = 5.0
BUSY_S: Final = 30.0


def _told(recording: Recording, label: str) -> tuple[Launch, float] | None:
    """The launch of this label and when it was sent SIGTERM, if it was ready and running then."""
    launch = recording.launch(label)
    at = None if launch is None else signalled(launch)
    if launch is None or at is None or launch.ready_at is None:
        return None
    return (launch, at) if launch.exited_at is None or launch.exited_at >= at else None


def _running(recording: Recording) -> tuple[Launch, float, Stream] | None:
    """The busy launch, the time of SIGTERM on the recording's clock, and the job that ran then."""
    told, exchange = _told(recording, BUSY), recording.exchange("running")
    if told is None or exchange is None or exchange.status != 200:
        return None
    stream, moment = stream_of(exchange), told[0].t0 + told[1]
    terminal = stream.terminal
    if not stream.tokens or (terminal is not None and exchange.t0 + terminal.at <= moment):
        return None
    return told[0], moment, stream


@judge("M0-W-1340/sigterm-exit-zero")
def exit_zero(recording: Recording) -> Iterator[Finding]:
    """Whoever does not exit at all is M0-W-1340/sigterm-idle-deadline."""
    told = _told(recording, IDLE)
    if told is None or told[0].exit_code is None:
        return
    if told[0].exit_code == 0:
        yield ok(told[0])
    else:
        yield fail(
            told[0],
            "exit-code-not-zero",
            "an idle worker does not end with exit code 0 on SIGTERM",
            expected="exit code 0",
            actual=how_it_went(told[0]),
        )


@judge("M0-W-1340/sigterm-idle-deadline")
def idle_deadline(recording: Recording) -> Iterator[Finding]:
    """Five seconds from the signal to the exit."""
    told = _told(recording, IDLE)
    if told is None:
        return
    launch, at = told
    limit = IDLE_S * scale_of(recording)
    took = None if launch.exited_at is None else launch.exited_at - at
    if took is not None and took <= limit:
        yield ok(launch, f"{took:.2f} s")
    else:
        yield fail(
            launch,
            "sigterm-ignored" if took is None else "exits-late",
            "an idle worker has not ended in time on SIGTERM",
            expected=f"exit within {limit:g} s",
            actual=how_it_went(launch) if took is None else f"{took:.1f} s",
        )


@judge("M0-W-1340/sigterm-finishes-job")
def finishes_job(recording: Recording) -> Iterator[Finding]:
    """All the tokens the job asked for (the probe never stops by itself) and end."""
    found = _running(recording)
    if found is None:
        return
    _, _, stream = found
    terminal, wanted = stream.terminal, stream.request.get("max_tokens")
    if terminal is not None and terminal.kind == "end" and len(stream.tokens) == wanted:
        yield ok(stream)
    else:
        yield fail(
            stream,
            "job-cut-by-sigterm",
            "the job that runs when SIGTERM comes is not finished",
            expected=f"{wanted} tokens and end",
            actual=f"{len(stream.tokens)} tokens, {'no terminal event' if terminal is None else terminal.text[:120]}",
        )


@judge("M0-W-1340/sigterm-refuses-new")
def refuses_new(recording: Recording) -> Iterator[Finding]:
    """503 or no connection, for a job that came after the signal and while the first one ran."""
    found = _running(recording)
    if found is None:
        return
    _, moment, stream = found
    over = stream.terminal.at if stream.terminal is not None else stream.exchange.closed_at
    for exchange in recording.labelled("late"):
        if exchange.t0 <= moment or over is None or exchange.t0 >= stream.exchange.t0 + over:
            continue
        if exchange.status == 503 or (exchange.status is None and exchange.end != "garbage"):
            yield ok(exchange)
        else:
            yield fail(
                exchange,
                "accepts-after-sigterm",
                "a new job is not refused after SIGTERM",
                expected="HTTP 503, or no connection",
                actual=describe(exchange),
            )


@judge("M0-W-1340/sigterm-busy-deadline")
def busy_deadline(recording: Recording) -> Iterator[Finding]:
    """Exit code 0 within thirty seconds of the signal."""
    found = _running(recording)
    if found is None:
        return
    launch, moment, _ = found
    limit = BUSY_S * scale_of(recording)
    took = None if launch.exited_at is None else launch.t0 + launch.exited_at - moment
    if took is not None and took <= limit and launch.exit_code == 0:
        yield ok(launch, f"{took:.2f} s")
    else:
        yield fail(
            launch,
            "busy-exit",
            "a worker that gets SIGTERM while a job runs does not end well in time",
            expected=f"exit code 0 within {limit:g} s",
            actual=how_it_went(launch),
        )


@judge("M0-W-1630/within-5s")
def within_five_seconds(recording: Recording) -> Iterator[Finding]:
    """For information: the same, with a job of about a second, in five seconds."""
    found = _running(recording)
    if found is None or found[0].exited_at is None:
        return
    launch, moment, _ = found
    took = launch.t0 + found[0].exited_at - moment
    yield ok(launch, f"{took:.2f} s") if took <= IDLE_S else note(launch, "five-seconds", f"exits after {took:.1f} s")


@judge("M0-W-1340/shutdown-endpoint")
def shutdown_endpoint(recording: Recording) -> Iterator[Finding]:
    """For information: 202 and exit code 0, on the launch "callback"."""
    launch, exchange = recording.launch("callback"), recording.exchange("shutdown")
    if launch is None or exchange is None:
        return
    if exchange.status == 202 and launch.exit_code == 0:
        yield ok(launch)
    elif exchange.status in {404, 405, 501}:
        yield not_applicable(exchange, "the worker has no POST /shutdown")
    else:
        yield note(exchange, "shutdown-endpoint", f"{describe(exchange)}; {how_it_went(launch)}")

"""Judges of one worker's whole life, two workers side by side, SIGTERM while a job runs."""

from __future__ import annotations

from typing import Final

from m0_conformance.judging import (
    Exchange,
    Findings,
    Json,
    Launch,
    Recording,
    Stream,
    describe,
    fail,
    first_broken,
    judge,
    not_applicable,
    note,
    ok,
    parse_json,
    require,
    stream_of,
)
from m0_conformance.judging.launches import IDLE_S, how_it_went, scale_of, signalled, told_to_end
from m0_conformance.judging.streams import together

LIFE: Final = "life"
_STABLE_KEYS: Final = ("model", "vocab_size", "context_length", "quant_kind", "tokenizer_kind")


def _stream(recording: Recording, label: str) -> Stream | None:
    """The stream of this label if its job ended well; others judge how jobs end."""
    exchange = recording.exchange(label)
    if exchange is None or exchange.status != 200:
        return None
    stream = stream_of(exchange)
    return stream if stream.terminal is not None and stream.terminal.kind == "end" else None


def _same(recording: Recording, left: str, right: str, key: str, message: str) -> Findings:
    one, other = _stream(recording, left), _stream(recording, right)
    if one is None or other is None:
        return
    if one.pieces == other.pieces:
        yield ok(one)
        yield ok(other)
    else:
        yield fail(other, key, message, expected=repr(one.pieces)[:160], actual=repr(other.pieces)[:160])


@judge("M0-SYS-2.4.1/standalone")
def standalone(recording: Recording) -> Findings:
    """Ready with the four arguments alone, and the first job ends with end."""
    launch = recording.launch(LIFE)
    if launch is None:
        return
    if launch.ready_at is None:
        yield fail(
            launch,
            "not-ready-alone",
            "started with the four required arguments, the worker does not become ready",
            expected="ready",
        )
        return
    for exchange in recording.labelled("first"):
        if _stream(recording, "first") is not None:
            yield ok(launch)
        elif exchange.status is None or exchange.status >= 500:
            yield fail(
                exchange, "serves-nothing-alone", "a worker on its own does not serve", expected="a job that ends"
            )


@judge("M0-SYS-2.4.2/leaves-nothing")
def leaves_nothing(recording: Recording) -> Findings:
    """After the exit: no process of its group, and the port can be bound."""
    launch = recording.launch(LIFE)
    if launch is None or launch.exit_code is None or "port free" not in recording.facts:
        return
    left = recording.facts.get("processes left", [])
    yield first_broken(
        launch,
        (
            not left,
            "process-left",
            "a process of the worker outlives it",
            "none",
            ", ".join(str(name) for name in left)[:200],
        ),
        (recording.facts["port free"], "port-left", "the port cannot be bound after the exit", "free", "in use"),
    )


@judge("M0-W-1365/no-child-process")
def no_child_process(recording: Recording) -> Findings:
    """While a job ran: no descendant but the worker itself behind a wrapper, known by its worker id."""
    launch = recording.launch(LIFE)
    children = recording.facts.get("other programs")
    if launch is None or children is None:
        return
    yield require(
        not children,
        launch,
        "child-process",
        "the worker runs another program while it serves",
        expected="no child process",
        actual="; ".join(str(child) for child in children)[:200],
    )


@judge("M0-SYS-2.3.1/after-restart")
def after_restart(recording: Recording) -> Findings:
    """The same request on the worker that ran before and on the one just started."""
    yield from _same(
        recording, "before the restart", "first", "other-after-restart", "a freshly started process says something else"
    )


@judge("M0-W-1820/whole-life")
def whole_life(recording: Recording) -> Findings:
    """Start, health, a job, the job again, SIGTERM, exit code 0."""
    launch = recording.launch(LIFE)
    if launch is None or launch.ready_at is None:
        return
    health = recording.exchange("health")
    first, again = _stream(recording, "first"), _stream(recording, "again")
    broken = ""
    if health is None or health.status != 200:
        broken = f"health: {'not asked' if health is None else describe(health)}"
    elif first is None or again is None:
        missing = recording.exchange("first" if first is None else "again")
        broken = f"job: {'none' if missing is None else describe(missing)}"
    elif first.pieces != again.pieces:
        broken = f"the second job: {again.pieces!r}"[:160]
    elif signalled(launch) is None or launch.exit_code is None:
        broken = "SIGTERM: still running"
    elif launch.exit_code != 0:
        broken = f"SIGTERM: {how_it_went(launch)}"
    yield require(
        not broken,
        launch,
        "life-broken",
        "one process does not live through start, health, two equal jobs and SIGTERM",
        expected="exit code 0 after having served",
        actual=broken,
    )


@judge("M0-SYS-6.3.2/two-workers")
def two_workers(recording: Recording) -> Findings:
    """Two jobs at the same time on two ports, each as when it was alone."""
    message = "a worker serves something else while another one works beside it"
    for side in ("left", "right"):
        yield from _same(recording, f"{side} alone", f"{side} beside", "disturbed-by-neighbour", message)
        exchange = recording.exchange(f"{side} beside")
        alone = _stream(recording, f"{side} alone")
        if exchange is not None and alone is not None and _stream(recording, f"{side} beside") is None:
            yield fail(
                exchange,
                "neighbours-exclude-each-other",
                "a worker does not serve while another one works beside it",
                expected="end",
            )


@judge("M0-SYS-6.3.2/survives-neighbour")
def survives_neighbour(recording: Recording) -> Findings:
    """The running job of one ends well after SIGKILL to the other, and so does the next."""
    killed, left = recording.facts.get("neighbour killed at"), recording.launch("left")
    running = recording.exchange("beside the killed")
    if killed is None or running is None or left is None or signalled(left, "SIGKILL") is None:
        return
    stream = stream_of(running)
    ended = stream.terminal
    if ended is not None and running.t0 + ended.at <= killed:
        return  # it was over before
    for label in ("beside the killed", "after the killed"):
        exchange = recording.exchange(label)
        if exchange is None:
            continue
        yield require(
            _stream(recording, label) is not None,
            exchange,
            "dies-with-neighbour",
            "a worker does not go on when another one is killed",
            expected="end",
        )


@judge("M0-W-1002/file-replaced")
def file_replaced(recording: Recording) -> Findings:
    """Same tokens and same identity after another file took the model's name."""
    if recording.facts.get("file replaced") is not True:
        return
    yield from _same(
        recording, "left alone", "after the replacement", "follows-the-file", "another file on disk changes the outputs"
    )
    before, after = (_body(recording.exchange(f"health {when} the replacement")) for when in ("before", "after"))
    if before is None or after is None:
        return
    changed = [key for key in _STABLE_KEYS if before[1].get(key) != after[1].get(key)]
    if changed:
        yield fail(
            after[0],
            "identity-follows-the-file",
            f"another file on disk changes {', '.join(changed)} of /health",
            expected=str({key: before[1].get(key) for key in changed}),
            actual=str({key: after[1].get(key) for key in changed}),
        )
    else:
        yield ok(after[0])


def _body(exchange: Exchange | None) -> tuple[Exchange, dict[str, Json]] | None:
    value = parse_json(exchange.body).value if exchange is not None and exchange.status == 200 else None
    return (exchange, value) if exchange is not None and isinstance(value, dict) else None


BUSY: Final = "right"
BUSY_S: Final = 30.0


def _running(recording: Recording) -> tuple[Launch, float, Stream] | None:
    """The busy launch, the time of SIGTERM on the recording's clock, and the job that ran then."""
    told, exchange = told_to_end(recording, BUSY), recording.exchange("running")
    if told is None or exchange is None or exchange.status not in {200, None if together(recording) else 200}:
        return None
    stream, moment = stream_of(exchange, recording), told[0].t0 + told[1]
    terminal = stream.terminal
    if terminal is not None and exchange.t0 + terminal.at <= moment:
        return None
    if not (stream.tokens or together(recording)):
        return None
    return told[0], moment, stream


@judge("M0-W-1340/sigterm-finishes-job")
def finishes_job(recording: Recording) -> Findings:
    """All the tokens the job asked for (the probe never stops by itself) and end."""
    found = _running(recording)
    if found is None:
        return
    _, _, stream = found
    terminal, wanted = stream.terminal, stream.request.get("max_tokens")
    yield require(
        terminal is not None and terminal.kind == "end" and len(stream.tokens) == wanted,
        stream,
        "job-cut-by-sigterm",
        "the job that runs when SIGTERM comes is not finished",
        expected=f"{wanted} tokens and end",
        actual=f"{len(stream.tokens)} tokens, {'no terminal event' if terminal is None else terminal.text[:120]}",
    )


@judge("M0-W-1340/sigterm-refuses-new")
def refuses_new(recording: Recording) -> Findings:
    """503 or no connection, for a job that came after the signal and while the first one ran."""
    found = _running(recording)
    if found is None:
        return
    _, moment, stream = found
    over = stream.terminal.at if stream.terminal is not None else stream.exchange.closed_at
    for exchange in recording.labelled("late"):
        if exchange.t0 <= moment or over is None or exchange.t0 >= stream.exchange.t0 + over:
            continue
        yield require(
            exchange.status == 503 or (exchange.status is None and exchange.end != "garbage"),
            exchange,
            "accepts-after-sigterm",
            "a new job is not refused after SIGTERM",
            expected="HTTP 503, or no connection",
        )


@judge("M0-W-1340/sigterm-busy-deadline")
def busy_deadline(recording: Recording) -> Findings:
    """Exit code 0 within thirty seconds of the signal."""
    found = _running(recording)
    if found is None:
        return
    launch, moment, _ = found
    limit = BUSY_S * scale_of(recording)
    took = None if launch.exited_at is None else launch.t0 + launch.exited_at - moment
    yield require(
        took is not None and took <= limit and launch.exit_code == 0,
        launch,
        "busy-exit",
        "a worker that gets SIGTERM while a job runs does not end well in time",
        expected=f"exit code 0 within {limit:g} s",
        seen=f"{took or 0.0:.2f} s",
    )


@judge("M0-W-1630/within-5s")
def within_five_seconds(recording: Recording) -> Findings:
    """For information: the same, with a job of about a second, in five seconds."""
    found = _running(recording)
    if found is None or found[0].exited_at is None:
        return
    launch, moment, _ = found
    took = launch.t0 + found[0].exited_at - moment
    yield ok(launch, f"{took:.2f} s") if took <= IDLE_S else note(launch, "five-seconds", f"exits after {took:.1f} s")


@judge("M0-W-1340/shutdown-endpoint")
def shutdown_endpoint(recording: Recording) -> Findings:
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

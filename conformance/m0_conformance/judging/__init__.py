"""Judges: pure functions from what was recorded to findings. No input or output, no pytest, no clock.

Two kinds, both registered by the clause they judge:

`@judge("M0-W-1300/prompt-max")` reads the whole `Recording` of every check that names this clause::

    @judge("M0-W-1300/prompt-max")
    def prompt_max(recording: Recording) -> Findings:
        for exchange in recording.labelled("32769 characters"):
            yield require(exchange.status == 400, exchange, "prompt-above-limit-accepted",
                          "32,769 characters were not refused", expected="HTTP 400")

`@invariant("M0-W-1311/one-terminal")` runs on every /execute stream of *every* recording, whatever the check was for;
with `on="exchange"` on every HTTP exchange, with `on="launch"` on every worker process, with `on="recording"` on
every recording::

    @invariant("M0-W-1311/one-terminal")
    def one_terminal(stream: Stream) -> Findings: ...

A judge that saw nothing to judge yields nothing. It yields `ok` for each observation that kept the clause, `fail` for
each that broke it, `require` for either, `first_broken` for several demands in a row, `unsure` where the observation
decides nothing (too few samples), `not_applicable` where the clause does not bind this target, `note` for a reading
observed.
`key` is a fingerprint: short, stable, without numbers or text from the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from m0_conformance.contract import parse_json
from m0_conformance.judging.finding import Finding, Place, Status
from m0_conformance.judging.judge import (
    fail,
    first_broken,
    invariant,
    judge,
    not_applicable,
    note,
    ok,
    require,
    unsure,
    warn,
)
from m0_conformance.judging.streams import Event, Stream, describe, stream_of, streams
from m0_conformance.recording.transcript import Exchange, Json, Launch, LogLine, Recording

__all__ = [
    "Event",
    "Exchange",
    "Finding",
    "Findings",
    "Json",
    "Launch",
    "LogLine",
    "Place",
    "Recording",
    "Status",
    "Stream",
    "describe",
    "fail",
    "first_broken",
    "invariant",
    "judge",
    "not_applicable",
    "note",
    "ok",
    "parse_json",
    "require",
    "stream_of",
    "streams",
    "unsure",
    "warn",
]

Findings: TypeAlias = Iterator[Finding]
"""What a judge returns."""

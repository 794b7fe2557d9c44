"""What holds for every recording, made-up ones too: no judge raises, chunks do not matter, nothing improves."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from m0_conformance.judging.finding import Finding, Status
from m0_conformance.judging.judge import evaluate, judged_clauses, load_all
from m0_conformance.judging.verdict import _judge_clause
from m0_conformance.recording.sse import SseParser, parse_sse
from m0_conformance.recording.store import RunStore, cleaned, read_recording
from m0_conformance.recording.transcript import Chunk, Exchange, Recording
from m0_conformance.spec.registry import load_registry
from transcript_edits import corpus

QUICK = settings(
    max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
ENDS = ("eof", "reset", "client-closed", "timeout", "refused", "garbage", "open")


@functools.cache
def recordings() -> dict[str, Recording]:
    load_all()
    return {name: recording for name, recording in corpus().items() if len(recording.encode()) < 14_000}


EVENTS = st.sampled_from(
    [
        b'event: started\ndata: {"job_id":"a","model":"m","started_at":"2026-01-01T00:00:00Z"}\n\n',
        b'event: token\ndata: {"t":"x","i":0}\n\n',
        b'event: token\ndata: {"t":7,"i":"0"}\n\n',
        b'event: end\ndata: {"tokens_out":1e999,"decode_time_ms":[]}\n\n',
        b'event: error\ndata: {"code":{},"message":null,"retriable":"x"}\n\n',
        b"event: metrics\ndata: 1\n\n",
        b"data: [DONE]\n\n",
        b'data: {"type":["token"]}\n\n',
        b"event: token\n\n",
        b": comment\r\n\r\n",
        b'event: token\ndata: {"t":"\\ud800","i":-1}\n',
        b"\xef\xbb\xbf\xff\r\0",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.one_of(EVENTS, st.binary(max_size=8)), max_size=6).map(b"".join),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["status", "model", "uptime_seconds", "code", "error", "job_id", "quant_kind"]), inner
            )
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)


@st.composite
def wild_exchange(draw: st.DrawFn, exchange: Exchange) -> Exchange:
    body = draw(BODIES)
    times = st.none() | st.floats(0, 100).map(lambda value: round(value, 6))
    cut = draw(st.integers(0, len(body)))
    at = round(draw(st.floats(0, 50)), 6)
    chunks = [Chunk(at, piece) for piece in (body[:cut], body[cut:]) if piece]
    return replace(
        exchange,
        status=draw(st.sampled_from([None, 200, 202, 204, 302, 400, 404, 422, 500, 503])),
        headers=draw(
            st.sampled_from([[], [("Content-Type", "application/json")], [("content-type", "text/event-stream")]])
        ),
        chunks=chunks,
        request_body=draw(st.one_of(st.just(exchange.request_body), BODIES)),
        end=draw(st.sampled_from(ENDS)),
        sent_at=draw(times),
        head_at=draw(times),
        closed_at=draw(times),
        error=draw(st.sampled_from(["", "3 bytes after the end of the message"])),
    )


@st.composite
def wild_recording(draw: st.DrawFn) -> Recording:
    recording = recordings()[draw(st.sampled_from(sorted(recordings())))]
    exchanges = [draw(wild_exchange(exchange)) if draw(st.booleans()) else exchange for exchange in recording.exchanges]
    facts: dict[str, Any] = {**recording.facts, "model": draw(st.booleans())}
    return replace(recording, exchanges=exchanges, facts=facts, clauses=tuple(sorted(judged_clauses())))


@QUICK
@given(wild_recording())
def test_no_judge_raises_on_anything_a_worker_may_send(recording: Recording) -> None:
    crashed = [finding.message for finding in evaluate(recording) if finding.status is Status.ERROR]
    assert crashed == []


@QUICK
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_the_parser_takes_any_bytes_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    parser = SseParser()
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        parser.feed(body[start:end])
    assert parser.finish() == parse_sse(body)


def _said(recording: Recording) -> list[tuple[Any, ...]]:
    return [
        (finding.clause, finding.status, finding.key, finding.message, finding.actual, finding.at, finding.exchanges)
        for finding in evaluate(recording)
    ]


@QUICK
@given(st.data())
def test_how_bytes_are_cut_into_reads_changes_no_finding(data: st.DataObject) -> None:
    recording = data.draw(st.one_of(wild_recording(), st.sampled_from(list(recordings().values()))))
    exchanges = []
    for exchange in recording.exchanges:
        pieces: list[Chunk] = []
        for chunk in exchange.chunks:
            cut = data.draw(st.integers(0, len(chunk.data)))
            pieces += [Chunk(chunk.at, piece) for piece in (chunk.data[:cut], chunk.data[cut:]) if piece]
        exchanges.append(replace(exchange, chunks=pieces))
    assert _said(replace(recording, exchanges=exchanges)) == _said(recording)


STATUSES = st.sampled_from([status for status in Status if status is not Status.INFO])


@QUICK
@given(st.lists(STATUSES, min_size=1, max_size=6), STATUSES, st.data())
def test_a_further_finding_never_improves_a_clause(before: list[Status], more: Status, data: st.DataObject) -> None:
    clauses = [clause for clause in load_registry().clauses.values() if clause.status == "active"]
    clause = data.draw(st.sampled_from(clauses))
    # Enough evidence from the start: what a PASS may rest on is another rule's business.
    enough = [
        Finding(clause.id, Status.PASS, "ok", exchanges=(f"x{number}",), recording="r")
        for number in range(clause.min_evidence)
    ]

    def rolled(statuses: list[Status]) -> Status:
        findings = [Finding(clause.id, status, "key", exchanges=("x0",), recording="r") for status in statuses]
        return _judge_clause(clause, [*enough, *findings], "cuda", "").status

    assert rolled([*before, more]).severity <= rolled(before).severity


@QUICK
@given(wild_recording())
def test_a_recording_survives_the_store(recording: Recording) -> None:
    stored = cleaned(recording)
    assert cleaned(stored) == stored
    assert Recording.decode(stored.encode()) == stored
    assert Recording.decode(stored.encode()).sha == stored.sha


def test_what_is_read_back_is_what_was_judged(tmp_path: Any) -> None:
    with RunStore(tmp_path) as store:
        for recording in recordings().values():
            stored = cleaned(recording)
            again = read_recording(tmp_path, store.recording(stored))
            assert again == stored
            assert evaluate(again) == evaluate(stored)

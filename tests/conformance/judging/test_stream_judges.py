"""Every invariant of streams, health and errors: green on a good recording, red on one with exactly its defect."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from judging_samples import END, GOOD, STARTED, TOKENS, execute, health, recording, sse
from m0_conformance.judging.finding import Finding, Status
from m0_conformance.judging.judge import INVARIANTS, evaluate, load_all
from m0_conformance.recording.transcript import Chunk, Exchange, Launch, Recording

load_all()
OWN = ("streaming.", "events.", "health.", "refusals.never_5xx")
ERROR = ("error", {"code": "CANCELLED", "message": "cancelled", "retriable": False})


def red(*exchanges: Exchange, status: Status = Status.FAIL) -> dict[str, str]:
    """Clause to key of every finding of this status by the judges that are tested here."""
    findings = evaluate(recording(*exchanges))
    return {f.clause: f.key for f in findings if f.status is status and f.judge.startswith(OWN)}


def changed(event: tuple[str, dict[str, Any]], **changes: Any) -> tuple[str, dict[str, Any]]:
    return event[0], {key: value for key, value in {**event[1], **changes}.items() if value != "absent"}


def test_a_good_stream_is_green_and_counts_as_evidence() -> None:
    exchanges = [
        execute(sse(*GOOD)),
        execute(sse(STARTED, *TOKENS[:1], ERROR), number=2),
        health(),
        health(2, at=2.0, uptime_seconds=5.0),
    ]
    assert red(*exchanges) == {}
    passed = {f.clause for f in evaluate(recording(*exchanges)) if f.status is Status.PASS}
    owed = {c for entry in INVARIANTS if entry.name.startswith(OWN) for c in entry.clauses}
    # The first speaks only of failures; the second binds only workers that send the optional fields.
    assert owed - passed == {"M0-W-1302/never-5xx", "M0-W-1320/optional-types"}


@pytest.mark.parametrize(
    "body",
    [
        sse(*GOOD).replace(b"\n", b"\r\n"),
        b": keep-alive\n\n" + sse(*GOOD),
        sse(*GOOD).replace(b"data: ", b"data:"),
        sse(STARTED, ("metrics", {"tokens_per_sec": 3.0}), *TOKENS, END),
        sse(STARTED, ("end", {"tokens_out": 0, "decode_time_ms": 0})),
        sse(changed(STARTED, seed=7, extra=[1]), *(changed(t, id=9) for t in TOKENS), changed(END, stop_reason="EOS")),
        sse(STARTED, *(changed(t, t="") for t in TOKENS), END),
        sse(STARTED, changed(TOKENS[0], t="x" * 100_000), *TOKENS[1:], END),
        b"id: 4\nretry: 100\n" + sse(*GOOD),
    ],
)
def test_oddities_stay_green(body: bytes) -> None:
    assert red(execute(body)) == {}
    assert red(execute(body, chunks=[Chunk(0.01, body)])) == {}
    halves = [Chunk(0.01, body[: len(body) // 2]), Chunk(0.02, body[len(body) // 2 :])]
    assert red(execute(body, chunks=halves)) == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\xef\xbb\xbf" + sse(*GOOD), {"M0-W-1310/sse-grammar": "bom"}),
        (sse(*GOOD).replace(b"\n", b"\r"), {"M0-W-1310/sse-grammar": "lone-cr"}),
        (sse(*GOOD).replace(b"event: end", b"kind: x\nevent: end"), {"M0-W-1310/sse-grammar": "unknown-field"}),
        (sse(*GOOD)[:-1], {"M0-W-1310/last-event-complete": "no-final-blank-line"}),
        (sse(*GOOD).replace(b" w1", b" w\xff"), {"M0-W-1310/utf8-bytes": "ill-formed-utf8"}),
        (sse(STARTED, ("ping", {}), *TOKENS, END), {"M0-W-1310/event-names": "unknown-event-name"}),
        (sse(*TOKENS, END), {"M0-W-1311/started-first": "first-event-not-started"}),
        (sse(STARTED, *TOKENS, STARTED, END), {"M0-W-1311/started-once": "started-again"}),
        (sse(STARTED, *TOKENS), {"M0-W-1311/one-terminal": "no-terminal"}),
        (sse(*GOOD, ERROR), {"M0-W-1311/one-terminal": "several-terminals"}),
        (sse(*GOOD, ("metrics", {})), {"M0-W-1311/nothing-after-terminal": "metrics-after-terminal"}),
        (sse(*GOOD) + b"event: extra\ndata: {}\n\n", {
            "M0-W-1310/event-names": "unknown-event-name",
            "M0-W-1311/nothing-after-terminal": "event-after-terminal",
        }),
        (sse(*GOOD).replace(b'"i": 1}', b'"i": 1, "i": 1}'), {"M0-W-1312/json-object": "data-not-a-json-object"}),
        (sse(*GOOD).replace(b'"i": 1}', b'"i": 1, "p": NaN}'), {"M0-W-1312/json-object": "data-not-a-json-object"}),
        (sse(*GOOD).replace(b" w1", b"\\ud800"), {"M0-W-1312/json-object": "data-not-a-json-object"}),
        (sse(changed(STARTED, model="absent"), *TOKENS, END), {"M0-W-1312/started-fields": "started-model"}),
        (sse(changed(STARTED, model=""), *TOKENS, END), {"M0-W-1312/started-model": "empty-model"}),
        (sse(changed(STARTED, job_id="other"), *TOKENS, END), {"M0-W-1312/started-job-id": "other-job-id"}),
        (sse(changed(STARTED, started_at="0"), *TOKENS, END), {"M0-W-1312/started-at-format": "started-at-format"}),
        (sse(changed(STARTED, started_at="2023-11-14T22:13:20+00:00"), *TOKENS, END), {
            "M0-W-1312/started-at-format": "started-at-format",
        }),
        (sse(changed(STARTED, started_at="2020-01-01T00:00:00Z"), *TOKENS, END), {
            "M0-W-1312/started-at-now": "started-at-not-now",
        }),
        (sse(STARTED, changed(TOKENS[0], t=5), *TOKENS[1:], END), {"M0-W-1312/token-fields": "token-t"}),
        (sse(STARTED, changed(TOKENS[0], i="0"), *TOKENS[1:], END), {"M0-W-1312/token-fields": "token-i"}),
        (sse(STARTED, *(changed(t, i=n) for n, t in enumerate(TOKENS, 1)), END), {
            "M0-W-1312/token-index": "first-index",
        }),
        (sse(STARTED, TOKENS[0], TOKENS[2], changed(END, tokens_out=2)), {"M0-W-1312/token-index": "index-gap"}),
        (sse(STARTED, *TOKENS, changed(END, tokens_out=4)), {"M0-W-1312/end-tokens-out": "tokens-out-differs"}),
        (sse(STARTED, *TOKENS, changed(END, decode_time_ms=1.5)), {"M0-W-1312/end-fields": "end-decode_time_ms"}),
        (sse(STARTED, *TOKENS, changed(END, decode_time_ms=9000)), {
            "M0-W-1312/end-decode-time": "decode-time-too-long",
        }),
        (sse(STARTED, changed(ERROR, message="")), {"M0-W-1312/error-fields": "error-message"}),
        (sse(STARTED, changed(ERROR, code="INFERENCE_FAILED")), {"M0-W-1500/code-set": "unknown-code"}),
        (sse(STARTED, changed(ERROR, retriable="absent")), {"M0-W-1510/retriable": "error-retriable"}),
    ],
)  # fmt: skip
def test_each_defect_turns_its_clause_red(body: bytes, expected: dict[str, str]) -> None:
    assert red(execute(body)) == expected


def as_json_type(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps({"type": name, **data}).encode() + b"\n\n" for name, data in events)


@pytest.mark.parametrize("tail", [b"", b"data: [DONE]\n\n"])
def test_another_dialect_fails_the_framing_clause_once_and_nothing_else(tail: bytes) -> None:
    assert red(execute(as_json_type(*GOOD) + tail)) == {"M0-W-1310/event-line": "dialect-json-type"}


def test_lenient_mode_only_warns_of_the_known_dialect() -> None:
    lenient = recording(execute(as_json_type(*GOOD)))
    lenient.settings["disputes"] = "lenient"
    statuses = {f.status for f in evaluate(lenient) if f.clause == "M0-W-1310/event-line"}
    assert statuses == {Status.WARN, Status.INFO}


def test_a_nameless_stream_fails_the_framing_clause() -> None:
    body = sse(*GOOD).replace(b"event: token\n", b"")
    assert red(execute(body))["M0-W-1310/event-line"] == "nameless-event"


def test_a_zero_decode_time_is_a_lie_when_tokens_came_slowly() -> None:
    body = sse(STARTED, *TOKENS, changed(END, decode_time_ms=0))
    assert red(execute(body)) == {}
    assert red(execute(body, gap=0.2)) == {"M0-W-1312/end-decode-time": "decode-time-zero"}


def test_a_body_that_stays_open() -> None:
    late = execute(sse(*GOOD), closed_at=3.0)
    assert red(late) == {"M0-W-1311/stream-closes": "body-stays-open"}
    assert red(replace(late, end="timeout")) == {"M0-W-1311/stream-closes": "body-stays-open"}
    assert red(execute(sse(*GOOD), end="reset", error="reset")) == {"M0-W-1311/stream-closes": "broken-framing"}
    assert red(execute(sse(*GOOD), end="client-closed")) == {}


def test_a_stuck_stream_fails_and_a_slow_one_is_undecided() -> None:
    body = sse(STARTED, *TOKENS)
    stuck = execute(body, end="timeout", closed_at=60.0)
    assert red(stuck) == {"M0-W-1311/one-terminal": "stuck"}
    slow = execute(body, gap=15.0, end="timeout", closed_at=46.0)
    assert red(slow) == {}
    assert red(slow, status=Status.INCONCLUSIVE) == {"M0-W-1311/one-terminal": "still-streaming"}


def test_what_the_check_cut_itself_is_not_the_workers_fault() -> None:
    body = sse(STARTED, *TOKENS)[:-9]
    assert red(execute(body, end="client-closed")) == {}
    killed = recording(execute(body, end="reset"))
    killed.launches.append(Launch("w", ["w"], signals=[("SIGKILL", 0.1)]))
    assert not [f for f in evaluate(killed) if f.status is Status.FAIL]


def test_the_model_must_be_the_one_health_names() -> None:
    assert red(execute(sse(*GOOD)), health(model="other")) == {"M0-W-1312/started-model": "model-differs-from-health"}


def test_a_stream_announced_as_something_else() -> None:
    plain = execute(sse(*GOOD), headers=[("Content-Type", "text/plain")])
    assert red(plain) == {"M0-W-1300/streams": "stream-content-type"}
    missing = execute(b"", status=404, headers=[], chunks=[])
    assert red(missing) == {"M0-W-1300/streams": "no-stream"}


@pytest.mark.parametrize("status", [500, 501, 502])
def test_server_errors(status: int) -> None:
    assert red(execute(b"oops", status=status)) == {"M0-W-1302/never-5xx": "server-error"}


def test_busy_is_no_server_error_but_a_broken_connection_is() -> None:
    assert red(execute(b"{}", status=503)) == {}
    broken = execute(b"", status=None, chunks=[], end="reset")
    assert red(broken)["M0-W-1302/never-5xx"] == "broken-connection"


def test_the_code_of_a_refusal_is_in_the_set() -> None:
    refused = execute(b'{"code": "BAD"}', status=400)
    assert red(refused) == {"M0-W-1500/code-set": "unknown-code"}
    assert red(execute(b'{"error": {"code": "INVALID_REQUEST"}}', status=400)) == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": ""}, {"M0-W-1320/model": "health-model"}),
        ({"resident": 1}, {"M0-W-1320/resident": "health-resident"}),
        ({"vram_bytes_used": -1}, {"M0-W-1320/vram-bytes-used": "health-vram-bytes-used"}),
        ({"vocab_size": True}, {"M0-W-1320/vocab-size": "health-vocab-size"}),
        ({"context_length": "absent"}, {"M0-W-1320/context-length": "health-context-length"}),
        ({"quant_kind": "absent"}, {"M0-W-1320/quant-kind": "health-quant-kind"}),
        ({"tokenizer_kind": "bpe"}, {"M0-W-1320/tokenizer-kind": "health-tokenizer-kind"}),
        ({"status": "ok"}, {"M0-W-1320/status": "health-status-word"}),
        ({"uptime_seconds": "3"}, {"M0-W-1320/uptime-seconds": "health-uptime"}),
        ({"sm": "86"}, {"M0-W-1320/optional-types": "optional-type"}),
    ],
)
def test_each_health_field(changes: dict[str, Any], expected: dict[str, str]) -> None:
    assert red(health(**changes)) == expected


def test_health_that_is_no_json_or_stands_still() -> None:
    wrong = health()
    wrong.headers = [("Content-Type", "text/plain")]
    assert red(wrong) == {"M0-W-1320/answers-json": "health-content-type"}
    wrong = health()
    wrong.chunks = [Chunk(0.0, b"[1]")]
    assert red(wrong) == {"M0-W-1320/answers-json": "health-not-a-json-object"}
    wrong.status = 404
    assert red(wrong) == {"M0-W-1320/answers-json": "health-status"}
    assert red(health(), health(2, at=4.0)) == {"M0-W-1320/uptime-seconds": "uptime-not-a-clock"}
    assert red(health(context_length=None, quant_kind="F16"), status=Status.WARN) == {
        "M0-W-1320/quant-kind": "non-m0-quant-kind",
    }


def test_a_finding_shows_its_place_and_the_lines_around_it() -> None:
    body = sse(STARTED, TOKENS[0], TOKENS[2], changed(END, tokens_out=2))
    finding = next(f for f in evaluate(recording(execute(body))) if f.key == "index-gap")
    assert finding.at is not None
    assert (finding.at.exchange, finding.at.event, finding.at.byte) == ("x1", 2, body.rindex(b"event: token"))
    assert [line[0] for line in finding.lines] == [" ", " ", ">", " "]
    assert finding.expected == "i: 1"
    assert finding.actual == "i: 2"


def silent(check: Recording) -> list[Finding]:
    return [f for f in evaluate(check) if f.clause == "M0-W-1300/job-id"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("completed", Status.NOT_TESTED),
        ("not-exercised", Status.NOT_TESTED),
        ("out-of-reach", Status.NOT_TESTED),
        ("blocked", Status.BLOCKED),
        ("harness-error", Status.ERROR),
    ],
)
def test_a_silent_check_is_never_a_pass(outcome: Any, status: Status) -> None:
    empty = recording(clauses=("M0-W-1300/job-id",))
    empty.outcome = outcome
    assert [finding.status for finding in silent(empty)] == [status]

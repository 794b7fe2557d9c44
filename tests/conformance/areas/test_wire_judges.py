"""Judges of requests, lengths and concurrency: red on exactly their defect, green beside it, else silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.judging.finding import Status
from m0_conformance.recording.transcript import Chunk
from wire_recordings import HOST, answer, event, job, red, refusal

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Exchange

PASS, FAIL, SILENT, WARN, NA = {Status.PASS}, {Status.FAIL}, {Status.NOT_TESTED}, {Status.WARN}, {Status.NA}
INVALID = event("error", code="INVALID_REQUEST", message="no", retriable=False)
BROKEN = event("error", code="INTERNAL", message="no", retriable=True)
HUNG = answer("c", None, b"", end="timeout")


def case(clause: str, want: str, kind: str = "value", field: str = "max_tokens") -> dict[str, Any]:
    return {"cases": {"c": {"clause": clause, "want": want, "kind": kind, "field": field}}}


LIMITS = [
    "minimal-body", "job-id", "prompt", "prompt-max", "body-size", "max-tokens-range", "temperature-range",
    "top-p-range", "top-k-range", "top-k-vocabulary", "repetition-penalty-range", "stop-count", "stop-length",
    "stop-empty-item", "seed-range",
]  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name: str) -> None:
    clause = f"M0-W-1300/{name}"
    assert red(clause, job("c", "a"), facts=case(clause, "accept")) == PASS
    assert red(clause, refusal("c", "x"), facts=case(clause, "accept")) == FAIL
    assert red(clause, refusal("c", "x"), facts=case(clause, "refuse")) == PASS
    assert red(clause, job("c", "a"), facts=case(clause, "refuse")) == FAIL
    # Which status a refusal has is M0-W-1302's; a busy or silent worker says nothing about a limit.
    assert red(clause, refusal("c", "x", 422), facts=case(clause, "refuse")) == PASS
    assert red(clause, answer("c", 500), facts=case(clause, "refuse")) == PASS
    assert red(clause, job("c", end=INVALID), facts=case(clause, "refuse")) == PASS
    assert red(clause, answer("c", 503), facts=case(clause, "accept")) == SILENT
    assert red(clause, HUNG, facts=case(clause, "accept")) == SILENT


def test_a_small_context_excuses_the_longest_prompt() -> None:
    clause = "M0-W-1300/prompt-max"
    facts = case(clause, "accept", field="prompt")
    assert red(clause, refusal("c", "prompt"), facts={**facts, "context_length": 4096}) == {Status.INCONCLUSIVE}
    assert red(clause, refusal("c", "prompt"), facts={**facts, "context_length": 32768}) == FAIL
    assert red(clause, refusal("c", "prompt"), facts={**facts, "fits": True}) == FAIL
    assert red(clause, refusal("c", "prompt"), job("c", "a"), facts=facts) == PASS  # of fewer tokens


def test_prompt_unit() -> None:
    clause = "M0-W-1300/prompt-unit"

    def judged(served: int, **facts: Any) -> set[Status]:
        exchanges = []
        for count in (32768, 16385, 16384, 8193, 8192):
            label = f"{count} astral characters"
            exchanges.append(job(label, "a") if count <= served else refusal(label, "prompt"))
            if count <= served:
                break
        noted = {e.label: {"clause": clause, "want": "accept", "kind": "value", "field": "prompt"} for e in exchanges}
        return red(clause, *exchanges, facts={"cases": noted, **facts})

    assert judged(32768) == judged(16385) == PASS  # the larger may exceed a context; the smaller excludes other units
    assert judged(16384) == judged(8192) == FAIL
    assert judged(0, fits=True) == FAIL
    assert judged(0, context_length=4096) == {Status.INCONCLUSIVE}
    noted = {"32768 astral characters": {"clause": clause, "want": "accept", "kind": "value", "field": "prompt"}}
    assert red(clause, answer("32768 astral characters", 500), facts={"cases": noted}) == SILENT


REFUSALS = [
    ("M0-W-1302/status-400", "value"), ("M0-W-1302/wrong-types", "type"), ("M0-W-1302/non-finite", "number"),
    ("M0-W-1302/malformed-json", "body"),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "kind"), REFUSALS)
def test_refusals(clause: str, kind: str) -> None:
    facts = case("M0-W-1300/max-tokens-range", "refuse", kind)
    assert red(clause, refusal("c", "max_tokens"), facts=facts) == PASS
    assert red(clause, refusal("c", "max_tokens", 422), facts=facts) == FAIL
    assert red(clause, job("c", end=INVALID), facts=facts) == FAIL
    assert red(clause, answer("c", 500), facts=facts) == SILENT
    assert red(clause, job("c", "a"), facts=facts) == (SILENT if kind == "value" else FAIL)


def test_shape_of_refusals() -> None:
    facts = case("M0-W-1300/max-tokens-range", "refuse")
    good = {"code": "INVALID_REQUEST", "message": "max_tokens is wrong", "retriable": False}

    def judged(clause: str, body: Any, headers: list[tuple[str, str]] | None = None) -> set[Status]:
        return red(clause, answer("c", 400, body, headers=headers), facts=facts)

    clause = "M0-W-1302/error-json"
    assert judged(clause, good) == PASS
    assert judged(clause, {"detail": []}) == PASS
    assert judged(clause, good, [("Content-Type", "text/plain")]) == FAIL
    assert judged(clause, b"no") == FAIL
    assert judged(clause, ["no"]) == FAIL
    clause = "M0-W-1302/names-field"
    assert judged(clause, good) == PASS
    assert judged(clause, {"errors": [{"field": "max_tokens"}]}) == PASS
    assert judged(clause, {"message": "no"}) == FAIL
    assert judged(clause, b"no") == SILENT
    clause = "M0-W-1500/invalid-request-code"
    assert judged(clause, good) == PASS
    assert judged(clause, {"error": good}) == PASS
    assert judged(clause, {"message": "max_tokens"}) == FAIL
    assert judged(clause, {"code": "INTERNAL"}) == FAIL
    assert judged(clause, {"code": "BAD"}) == SILENT  # code-set's
    assert judged("M0-W-1500/code-set", {"code": "BAD"}) == FAIL
    clause = "M0-W-1510/invalid-not-retriable"
    assert judged(clause, good) == PASS
    assert judged(clause, {**good, "retriable": True}) == FAIL
    assert judged(clause, {"message": "no"}) == NA


def test_never_5xx() -> None:
    clause, facts = "M0-W-1302/never-5xx", case("M0-W-1302/never-5xx", "any", "hostile", "")
    assert red(clause, job("c", "a"), facts=facts) == PASS
    assert red(clause, answer("c", 415), facts=facts) == PASS
    assert red(clause, answer("c", 500), facts=facts) == FAIL
    assert red(clause, answer("c", 503), facts=facts) == FAIL
    assert red(clause, HUNG, facts=facts) == FAIL
    assert red(clause, answer("c", None, b"", end="reset"), facts=facts) == FAIL
    assert red(clause, answer("busy", 503)) == SILENT
    # A failure of the device to a valid job has its own status.
    valid = {"job_id": "j", "prompt": "p"}
    assert red(clause, answer("j", 500, {"code": "VRAM_OOM", "message": "no"}, request=valid)) == SILENT
    assert red(clause, answer("j", 500, {"code": "INTERNAL", "message": "no"}, request=valid)) == FAIL
    assert red(clause, answer("j", 500, {"code": "VRAM_OOM", "message": "no"})) == FAIL


@pytest.mark.parametrize(
    ("clause", "label"),
    [
        ("M0-W-1302/wrong-method", "wrong method"),
        ("M0-W-1302/unknown-path", "unknown path"),
        ("M0-W-1001/no-load-route", "load route"),
    ],
)
def test_routes(clause: str, label: str) -> None:
    assert red(clause, answer(label, 404, path="/x")) == PASS
    assert red(clause, answer(label, 405, path="/x")) == (FAIL if label == "unknown path" else PASS)
    assert red(clause, answer(label, 200, path="/x")) == FAIL
    assert red(clause, answer(label, 500, path="/x")) == SILENT


def test_unknown_field() -> None:
    clause = "M0-W-1302/unknown-field"
    assert red(clause, job("unknown field", "a")) == PASS
    assert red(clause, refusal("unknown field", "n")) == PASS
    assert red(clause, answer("unknown field", 500)) == FAIL


def test_next_unaffected() -> None:
    clause, bad = "M0-W-1302/next-unaffected", refusal("bad", "x")
    before = [job("before", "a", "b"), job("before", "a", "b")]
    assert red(clause, *before, bad, job("after", "a", "b")) == PASS
    assert red(clause, *before, bad, job("after", "a", "c")) == FAIL
    assert red(clause, *before, bad, job("after", end=BROKEN)) == FAIL
    assert red(clause, *before, job("after", "a", "c")) == SILENT  # nothing was refused
    assert red(clause, job("before", "a"), job("before", "c"), bad, job("after", "b")) == SILENT


@pytest.mark.parametrize(
    ("clause", "label"),
    [("M0-W-1300/optional-defaults", "spelled out"), ("M0-W-1300/deadline-header", "with a deadline")],
)
def test_no_difference(clause: str, label: str) -> None:
    plain = [job("plain", "a", "b"), job("plain", "a", "b")]
    assert red(clause, *plain, job(label, "a", "b")) == PASS
    assert red(clause, *plain, job(label, "a", "c")) == FAIL
    assert red(clause, *plain, job(label, end=BROKEN)) == FAIL
    assert red(clause, *plain, refusal(label, "x")) == FAIL
    assert red(clause, job("plain", "a"), job("plain", "b"), job(label, "c")) == SILENT


def test_job_id_reuse() -> None:
    clause = "M0-W-1300/job-id-reuse"
    assert red(clause, job("first use", "a"), job("second use", "b")) == PASS
    assert red(clause, job("first use", "a"), refusal("second use", "job_id")) == FAIL
    assert red(clause, job("first use", "a"), job("second use", end=BROKEN)) == FAIL
    assert red(clause, job("first use", "a", end=BROKEN), refusal("second use", "job_id")) == SILENT


def test_correlation_header() -> None:
    clause = "M0-W-1300/correlation-header"
    exchange = job("with a correlation id", "a")
    exchange.request_headers = [("X-Correlation-Id", "1")]
    assert red(clause, exchange) == FAIL
    exchange.headers = [*exchange.headers, ("x-correlation-id", "1")]
    assert red(clause, exchange) == PASS


def health(label: str = "identity", **body: Any) -> Exchange:
    return answer(label, 200, body, method="GET", path="/health")


def test_tokenizer_identity() -> None:
    facts = {"tokenizer": {"kind": "gguf-bpe", "sizes": [761]}}
    clause = "M0-W-1360/from-metadata"
    assert red(clause, health(tokenizer_kind="gguf-bpe"), facts=facts) == PASS
    assert red(clause, health(tokenizer_kind="hf-json"), facts=facts) == FAIL
    assert red(clause, health(tokenizer_kind="spm"), facts=facts) == SILENT
    clause = "M0-W-1364/vocab-size"
    assert red(clause, health(vocab_size=761), facts=facts) == PASS
    assert red(clause, health(vocab_size=256), facts=facts) == FAIL
    assert red(clause, health(vocab_size="761"), facts=facts) == SILENT


def test_max_tokens_bound() -> None:
    clause = "M0-W-1300/max-tokens-bound"
    assert red(clause, job("j", "a", "b", max_tokens=2)) == PASS
    assert red(clause, job("j", "a", "b", "c", max_tokens=2)) == FAIL
    doubled = event("end", tokens_out=2, decode_time_ms=1)
    assert red(clause, job("j", "a", "a", "b", max_tokens=2, end=doubled)) == PASS  # end-tokens-out's
    assert red(clause, job("j", "a")) == SILENT


@pytest.mark.parametrize(
    ("clause", "label"), [("M0-W-1300/max-tokens-reached", "endless"), ("M0-W-1300/max-tokens-default", "default")]
)
def test_max_tokens_reached(clause: str, label: str) -> None:
    facts = {"endless": True}
    asked: dict[str, Any] = {"max_tokens": 2} if label == "endless" else {}
    full = ["a"] * (2 if label == "endless" else 2048)
    assert red(clause, job(label, *full, **asked), facts=facts) == PASS
    assert red(clause, job(label, *full[:-1], **asked), facts=facts) == FAIL
    assert red(clause, job(label, *full, end=BROKEN, **asked), facts=facts) == FAIL
    lost = event("end", tokens_out=len(full), decode_time_ms=1)
    assert red(clause, job(label, *full[:-1], end=lost, **asked), facts=facts) == PASS  # a lost event: end-tokens-out's
    assert red(clause, job(label, "a", end=None, **asked), facts=facts) == SILENT


def test_max_tokens_prefix() -> None:
    clause = "M0-W-1300/max-tokens-prefix"
    longer = [job("longer", "a", "b", "c"), job("longer", "a", "b", "c")]
    assert red(clause, *longer, job("shorter", "a", "b")) == PASS
    assert red(clause, *longer, job("shorter", "a", "\ufffd")) == PASS
    assert red(clause, *longer, job("shorter", "a", "c")) == FAIL
    assert red(clause, job("longer", "a"), job("longer", "b"), job("shorter", "c")) == SILENT


def test_no_tokens() -> None:
    clause = "M0-W-1311/no-tokens"
    assert red(clause, job("ends at once")) == PASS
    assert red(clause, job("ends at once", end=BROKEN)) == FAIL
    assert red(clause, job("ends at once", "")) == WARN
    assert red(clause, job("ends at once", "text")) == SILENT  # eos-ends, eos-silent
    assert red(clause, job("ends at once", end=None)) == SILENT


FOUR = ("a", "b", "c", "d")


def test_no_interleave() -> None:
    clause = "M0-W-1301/no-interleave"
    first = job("running", *FOUR, *FOUR, step=0.06)  # its end at 0.6
    held = job("second", "x", t0=0.25, step=0.4)
    assert red(clause, first, held) == PASS
    assert red(clause, first, job("second", "x", t0=0.25, step=0.32)) == PASS  # two sockets, read one after the other
    assert red(clause, first, job("second", "x", t0=0.25, step=0.05)) == FAIL
    late = job("running", *FOUR, *FOUR, step=0.06)  # all the rest in one read, long after: the harness did not get on
    late.chunks[4:] = [Chunk(9.0, chunk.data) for chunk in late.chunks[4:]]
    assert Status.FAIL not in red(clause, late, job("second", "x", t0=0.25, step=0.05))
    whole = job("second", "x")  # it ran before, all of it lay ready, and the harness read the other socket first
    whole.chunks = [Chunk(first.chunks[1].at + 0.001, chunk.data) for chunk in whole.chunks]
    assert Status.FAIL not in red(clause, first, whole)
    whole.chunks = [Chunk(first.chunks[5].at + 0.001, chunk.data) for chunk in whole.chunks]
    assert red(clause, first, whole) == FAIL
    begun = first.chunks[0].at + 0.001  # asked for when the first had begun: it cannot have run before
    whole = job("second", "x", t0=begun)
    whole.chunks = [Chunk(first.chunks[1].at + 0.001 - begun, chunk.data) for chunk in whole.chunks]
    assert red(clause, first, whole) == FAIL
    assert red(clause, first, job("second", "x", t0=0.7)) == SILENT
    assert red(clause, first, job("second", t0=0.25, end=BROKEN)) == SILENT  # cancelled while it waited
    other = job("second", "x", t0=0.25, step=0.1)
    other.host = HOST + "1"
    assert red(clause, first, other) == SILENT


def test_second_answered() -> None:
    clause = "M0-W-1301/second-answered"
    first = job("running", *FOUR, step=0.1)
    assert red(clause, first, job("second", "x", t0=0.25, step=0.4)) == PASS
    for status in (503, 429, 409):
        assert red(clause, first, answer("second", status, {}, t0=0.25)) == PASS
    assert red(clause, first, answer("second", 503, b"busy", t0=0.25, headers=[])) == FAIL
    assert red(clause, first, answer("second", 400, {}, t0=0.25)) == FAIL
    assert red(clause, first, answer("second", None, b"", t0=0.25, end="reset")) == FAIL
    empty = job("second", t0=0.25)
    empty.chunks = []
    assert red(clause, first, empty) == FAIL
    assert red(clause, first, answer("second", 400, {}, t0=0.7)) == SILENT  # the first was over


def test_solo_equal() -> None:
    clause = "M0-W-1301/solo-equal"
    alone = [job("first alone", "a"), job("second alone", "x")] * 2
    assert red(clause, *alone, job("running", "a"), job("second", "x")) == PASS
    assert Status.FAIL in red(clause, *alone, job("running", "a"), job("second", "a"))
    assert Status.FAIL in red(clause, *alone, job("running", "x"), job("second", "x"))
    assert red(clause, *alone, answer("second", 503, {})) == SILENT


def test_duplicate_active() -> None:
    clause = "M0-W-1301/duplicate-active"
    alone = [job("twin alone", *FOUR, t0=-9.0)] * 2
    first = job("running twin", *FOUR, step=0.1)
    for twin in (refusal("twin", "job_id"), answer("twin", 503, {}), job("twin", "x", step=0.6)):
        twin.t0 = 0.25
        assert red(clause, *alone, first, twin) == PASS
    lost = answer("twin", None, b"", t0=0.25, end="reset")
    assert red(clause, *alone, first, lost) == FAIL
    refused = refusal("twin", "job_id")
    refused.t0 = 0.25
    cancelled = event("error", code="CANCELLED", message="no", retriable=False)
    assert red(clause, *alone, job("running twin", *FOUR, step=0.1, end=cancelled), refused) == FAIL
    assert red(clause, *alone, job("running twin", "a", "b", "c", "e", step=0.1), refused) == FAIL


def test_after_disconnect() -> None:
    clause = "M0-W-1301/after-disconnect"
    good = [job("undisturbed", "a", "b"), job("undisturbed", "a", "b"), job("abandoned", "a", end=None)]
    assert red(clause, *good, job("next", "a", "b")) == PASS
    assert red(clause, *good, job("next", "b")) == FAIL
    assert red(clause, *good, job("next", end=BROKEN)) == FAIL
    assert red(clause, *good, answer("next", None, b"", end="refused")) == FAIL
    assert red(clause, *good[:2], job("next", "b")) == SILENT


def test_while_generating() -> None:
    clause = "M0-W-1320/while-generating"
    long = job("long", *FOUR, step=0.5)  # its end at 3.0

    def asked(took: float, status: int | None = 200) -> Exchange:
        return answer("meanwhile", status, {}, method="GET", path="/health", t0=1.1, took=took)

    assert red(clause, long, asked(0.01)) == PASS
    assert red(clause, long, asked(1.9)) == FAIL
    assert red(clause, long, asked(0.5, None)) == FAIL
    short = job("long", *FOUR, t0=1.0, step=0.05)
    assert red(clause, short, asked(0.3)) == {Status.INCONCLUSIVE}


def test_incremental() -> None:
    clause = "M0-SYS-6.3.1/incremental"
    spread = job("long", *["a"] * 40, step=0.02)
    assert red(clause, spread) == PASS
    replayed = job("long", *["a"] * 40, step=0.02)
    last = replayed.chunks[-1].at
    replayed.chunks = [replayed.chunks[0], *(type(chunk)(last, chunk.data) for chunk in replayed.chunks[1:])]
    assert red(clause, replayed) == FAIL
    assert red(clause, job("long", *["a"] * 40, step=0.001)) == SILENT


def test_valid_job_ends() -> None:
    clause = "M0-SYS-6.3.1/valid-job-ends"
    assert red(clause, job("ordinary", "a")) == PASS
    assert red(clause, job("ordinary", "a", end=BROKEN)) == FAIL
    assert red(clause, job("ordinary", "a", end=None)) == SILENT


def test_model_constant() -> None:
    clause = "M0-W-1001/model-constant"
    assert red(clause, health(model="m"), job("j", "a"), health(model="m")) == PASS
    assert Status.FAIL in red(clause, health(model="m"), job("j", "a"), health(model="n"))
    # That health and started agree is M0-W-1312/started-model.
    assert red(clause, health(model="other"), job("j", "a")) == PASS


def test_no_internal_alphabet() -> None:
    clause = "M0-W-1362/no-internal-alphabet"
    assert red(clause, job("j", " a", "é")) == PASS
    assert red(clause, job("j", "\u0120a", "b")) == FAIL
    assert red(clause, job("j", "\u010a", "b")) == FAIL
    assert red(clause, job("j", "\u0120a", prompt="\u0120")) == SILENT


def test_any_prompt() -> None:
    clause = "M0-W-1362/any-prompt"
    assert red(clause, job("battery", "a", prompt="?")) == PASS
    assert red(clause, job("battery", "a", prompt="?"), refusal("battery", "prompt")) >= FAIL
    assert red(clause, job("battery", prompt="\t", end=BROKEN)) == FAIL
    assert red(clause, job("battery", "a", end=None)) == SILENT

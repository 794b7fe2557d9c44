"""Judges of read-outs and echoes: green where every prompt says right, else one clause with the mistake's name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from m0_conformance.areas.arithmetic.judge import CLAUSES, home, says_right
from m0_conformance.areas.tokenizers.judge import cuts, said_again
from m0_conformance.judging.finding import Finding, Status
from m0_conformance.recording.transcript import Chunk, Exchange, Recording

FACTS = {
    "prompts": [{"text": "a", "says": ["[right 1.1]", "[right 1.2]"]}, {"text": "b", "says": ["[right 2.1]"]}],
    "names": {"[gelu-erf 1.2]": "gelu-erf", "[gelu-erf 2.1]": "gelu-erf", "[query-bias 2.1]": "query-bias"},
    "about": {"gelu-erf": "computes GELU with the error function", "query-bias": "does not add the query's bias"},
}


def stream(label: str, pieces: list[str], request: dict[str, Any] | None = None) -> Exchange:
    events = [("started", {"job_id": "j", "model": "m", "started_at": "2025-01-01T00:00:00Z"})]
    events += [("token", {"t": piece, "i": number}) for number, piece in enumerate(pieces)]
    events += [("end", {"tokens_out": len(pieces), "decode_time_ms": 1})]
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events).encode()
    sent = json.dumps({"job_id": "j", "prompt": "a", **(request or {})}).encode()
    return Exchange(
        label,
        label,
        "POST",
        "/execute",
        [],
        sent,
        status=200,
        headers=[("content-type", "text/event-stream")],
        chunks=[Chunk(0.1, body)],
        end="complete",
    )


def read_out(name: str, *answers: list[str]) -> list[Finding]:
    recording = Recording("arithmetic::test_arithmetic", CLAUSES[name])
    recording.facts = {"readouts": {name: FACTS}}
    recording.exchanges = [stream(f"{name} {number}", pieces) for number, pieces in enumerate(answers)]
    return list(says_right(recording))


RIGHT = (["[right 1.1]", "[right 1.2]"], ["[right 2.1]"])


def test_right_everywhere_is_a_pass_of_all_that_the_read_out_shows() -> None:
    findings = read_out("gpt2-forward", *RIGHT)
    assert {(finding.clause, finding.status) for finding in findings} == {
        (clause, Status.PASS) for clause in CLAUSES["gpt2-forward"]
    }


def test_a_named_mistake_breaks_its_own_clause() -> None:
    (finding,) = read_out("gpt2-forward", ["[right 1.1]", "[gelu-erf 1.2]"], ["[gelu-erf 2.1]"])
    assert (finding.clause, finding.status, finding.key) == ("M0-W-1433/formula", Status.FAIL, "gelu-erf")
    assert finding.message == "the worker computes GELU with the error function"


@pytest.mark.parametrize(
    "answers",
    [
        (["[gelu-erf 1.2]", ""], ["[query-bias 2.1]"]),  # two names
        (["?", "?"], ["[right 2.1]"]),  # none
        (["[right 1.1]"], ["[right 2.1]"]),  # too few tokens
    ],
)
def test_what_is_no_known_mistake_is_said_to_be_none(answers: tuple[list[str], list[str]]) -> None:
    (finding,) = read_out("gpt2-forward", *answers)
    assert (finding.clause, finding.status, finding.key) == ("M0-W-1215/parity", Status.FAIL, "unlike")


def test_spaces_between_tokens_change_nothing() -> None:
    findings = read_out("gpt2-forward", [" [right 1.1]", " [right 1.2]"], [" [right 2.1]"])
    assert {finding.status for finding in findings} == {Status.PASS}


def test_a_prompt_that_was_not_answered_decides_nothing() -> None:
    assert read_out("gpt2-forward", RIGHT[0]) == []


def test_every_mistake_has_a_home_that_its_read_out_shows() -> None:
    assert home("llama-forward", "rope-pairing") == "M0-W-1430/kernels"
    assert home("qwen2-forward", "query-bias") == "M0-W-1214/parity"
    assert home("gpt2-forward", "positions-missing") == "M0-W-1434/formula"
    assert home("gpt-oss-forward", "rope-pairing") == "M0-W-1420/parity"


def echo(pieces: list[bytes], heard: list[str]) -> Finding:
    recording = Recording("tokenizers::test_vectors", ("M0-W-1363/vectors",))
    vector = {"category": "basic", "description": "x", "pieces": [piece.hex() for piece in pieces], "ends": False}
    recording.facts = {"echo": {"vectors": [vector]}}
    recording.exchanges = [stream("vector 0", heard)]
    (finding,) = said_again(recording)
    return finding


@pytest.mark.parametrize(
    ("pieces", "heard", "key"),
    [
        ([b"ab", b"c"], ["ab", "c"], "ok"),
        ([b"ab", b"c"], ["a", "bc"], "other-cut"),
        ([b"ab", b"c"], ["abc"], "other-cut"),
        ([b"ab", b"c"], ["ab", "d"], "other-text"),
        ([b"", b"ab"], ["ab"], "ok"),  # a control token has no text
        ([b"a\xc3", b"\xa9b"], ["a", "éb"], "ok"),  # what is complete may come first
        ([b"a\xc3", b"\xa9b"], ["aéb"], "ok"),  # or wait
        ([b"a\xc3", b"\xa9b"], ["aé", "b"], "other-cut"),
        ([b"ab", b"\xe4\xb8"], ["ab"], "ok"),  # an incomplete end is never shown
    ],
)
def test_cuts_are_heard(pieces: list[bytes], heard: list[str], key: str) -> None:
    assert echo(pieces, heard).key == key


def test_cuts_of_incomplete_characters() -> None:
    assert cuts([b"a", b"\xe4\xb8", b"\xad"]) == ({1, 4}, {1, 4})

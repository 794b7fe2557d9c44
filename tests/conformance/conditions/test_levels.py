"""Each level of the grid: a scene that meets it, and one close by that does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from m0_conformance.conditions import GRID, Past, Scene, find, levels
from m0_conformance.conditions.grid import level
from m0_conformance.spec.registry import load_registry


def job(**fields: Any) -> Scene:
    return Scene(body=json.dumps(fields).encode())


def raw(body: str) -> Scene:
    return Scene(body=body.encode())


def head(name: str, value: str) -> Scene:
    return Scene(headers=((name, value),))


def came(last: str) -> Scene:
    return Scene(past=Past(last=last))


def beside(*earlier: str) -> Scene:
    return Scene(body=b'{"job_id": "job-12"}', past=Past(ids=earlier))


MEETS_AND_NOT: dict[str, tuple[Scene, Scene]] = {
    "draw=greedy": (job(temperature=0), job(temperature=0.1)),
    "draw=sampled": (job(), job(temperature=0.0)),
    "temperature=default": (job(), job(temperature=1.0)),
    "temperature=low": (job(temperature=0.4), job(temperature=0)),
    "temperature=high": (job(temperature=1.5), job(temperature=1)),
    "top_p=default": (job(), job(top_p=1.0)),
    "top_p=low": (job(top_p=0.0), job(top_p=0.5)),
    "top_p=high": (job(top_p=0.5), job(top_p=1.0)),
    "top_k=default": (job(), job(top_k=0)),
    "top_k=low": (job(top_k=8), job(top_k=0)),
    "top_k=high": (job(top_k=9), job(top_k=8)),
    "repetition_penalty=default": (job(), job(repetition_penalty=1.0)),
    "repetition_penalty=low": (job(repetition_penalty=0.5), job(repetition_penalty=1)),
    "repetition_penalty=high": (job(repetition_penalty=1.5), job(repetition_penalty=1)),
    "min_p=given": (job(min_p=0.0), job(min_p="x")),
    "seed=default": (job(), job(seed=0)),
    "seed=zero": (job(seed=0), job(seed=1)),
    "seed=low": (job(seed=1), job(seed=2**53 + 1)),
    "seed=high": (job(seed=2**64 - 1), job(seed=2**53)),
    "stop=default": (job(stop=[]), job(stop=["a"])),
    "stop=one": (job(stop=["a"]), job(stop=["a", "b"])),
    "stop=several": (job(stop=["a", "b"]), job(stop=["a"])),
    "stop=long": (job(stop=["a", "b" * 13]), job(stop=["b" * 12])),
    "stop=beyond-ascii": (job(stop=["é"]), job(stop=["e"])),
    "together=top_k+top_p": (job(top_k=3, top_p=0.5), job(top_k=3, top_p=1.0)),
    "together=temperature+top_k": (job(temperature=2.0, top_k=3), job(top_k=3)),
    "together=temperature+top_p": (job(temperature=2.0, top_p=0.5), job(top_p=0.5)),
    "together=penalty+top_k": (job(repetition_penalty=2.0, top_k=3), job(repetition_penalty=1.0, top_k=3)),
    "together=penalty+stop": (job(repetition_penalty=2.0, stop=["a"]), job(repetition_penalty=2.0)),
    "together=sampled+stop": (job(stop=["a"]), job(stop=["a"], temperature=0)),
    "prompt=short": (job(prompt="a" * 63), job(prompt="a" * 64)),
    "prompt=medium": (job(prompt="a" * 64), job(prompt="a" * 2000)),
    "prompt=long": (job(prompt="a" * 2000), job(prompt="a" * 1999)),
    "letters=ascii": (job(prompt="a"), job(prompt="é")),
    "letters=multi-byte": (job(prompt="東"), job(prompt="😀")),
    "letters=astral": (job(prompt="😀"), job(prompt="東")),
    "letters=control": (job(prompt="a\x01"), job(prompt="a ")),
    "letters=leading-space": (job(prompt=" a"), job(prompt="a ")),
    "letters=trailing-space": (job(prompt="a "), job(prompt=" a")),
    "numbers=integer": (raw('{"temperature": 1}'), raw('{"temperature": 1.0, "max_tokens": 1}')),
    "numbers=exponent": (raw('{"seed": 1e0}'), raw('{"prompt": "1e0"}')),
    "numbers=negative-zero": (raw('{"seed": -0}'), raw('{"seed": -0.5}')),
    "numbers=many-digits": (raw('{"top_p": 0.9000000000001}'), raw('{"top_p": 0.9}')),
    "json=compact": (raw('{"prompt":"a b"}'), raw('{"prompt": "a"}')),
    "json=lines": (raw('{"prompt":\n"a"}'), raw('{"prompt": "\\n"}')),
    "json=escapes": (raw('{"prompt": "\\u0061"}'), raw('{"prompt": "\\u00e9"}')),
    "json=raw-utf8": (raw('{"prompt": "é"}'), raw('{"prompt": "\\u00e9"}')),
    "json=job-id-last": (job(prompt="a", job_id="b"), job(job_id="b", prompt="a")),
    "json=unknown-field": (job(colour="red"), job(seed=1)),
    "header-names=lower": (head("content-type", "x"), head("Content-Type", "x")),
    "header-names=upper": (head("CONTENT-TYPE", "x"), head("Content-Type", "x")),
    "media=charset": (
        head("Content-Type", "application/json; Charset=utf-8"),
        head("Content-Type", "application/json"),
    ),
    "media=capitals": (head("Content-Type", "Application/JSON"), head("Content-Type", "application/json; Charset=x")),
    "framing=chunked": (head("Transfer-Encoding", "Chunked"), head("Content-Length", "2")),
    "framing=pieces": (Scene(pieces=2), Scene()),
    "framing=kept-alive": (Scene(on_connection=2), Scene()),
    "job-id=uuid": (job(job_id="00000000-0000-1000-8000-000000000000"), job(job_id="job-1")),
    "job-id=mixed-case": (job(job_id="Job"), job(job_id="JOB")),
    "job-id=long": (job(job_id="a" * 65), job(job_id="a" * 64)),
    "job-id=prefix": (beside("job-1"), beside("job-12", "job-13")),
    "job-id=beyond-ascii": (job(job_id="é"), job(job_id="e")),
    "turn=first": (Scene(), Scene(past=Past(jobs=1))),
    "turn=second": (Scene(past=Past(jobs=1)), Scene(past=Past(jobs=2))),
    "turn=later": (Scene(past=Past(jobs=2)), Scene(past=Past(jobs=1))),
    "after=cancel": (came("cancel"), came("disconnect")),
    "after=disconnect": (came("disconnect"), came("cancel")),
    "after=refusal": (came("refusal"), came("error")),
    "after=error": (came("error"), came("cancel")),
    "after=stop": (came("stop"), came("end")),
    "company=alone": (Scene(), Scene(ahead=1)),
    "company=waited": (Scene(ahead=1), Scene()),
    "company=waited-in-line": (Scene(ahead=3), Scene(ahead=2)),
    "company=one-behind": (Scene(behind=1), Scene()),
    "company=three-behind": (Scene(behind=3), Scene(behind=2)),
    "length=one": (job(max_tokens=1), job(max_tokens=2)),
    "length=short": (job(max_tokens=64), job(max_tokens=65)),
    "length=medium": (job(max_tokens=65), job(max_tokens=1500)),
    "length=long": (job(), job(max_tokens=1499)),
    "place=first": (Scene(tokens=0), Scene(tokens=1)),
    "place=second": (Scene(tokens=1), Scene(tokens=2)),
    "place=beyond-64": (Scene(tokens=64), Scene(tokens=63)),
    "place=beyond-1000": (Scene(tokens=1000), Scene(tokens=999)),
    "said=multi-byte": (Scene(said="é"), Scene(said="😀")),
    "said=astral": (Scene(said="😀"), Scene(said="é")),
    "said=control": (Scene(said="\n"), Scene(said=" ")),
    "said=leading-space": (Scene(said=" a"), Scene(said="a ")),
    "said=nothing": (Scene(said=""), Scene(said=None)),
}


@pytest.mark.parametrize("condition", MEETS_AND_NOT)
def test_a_level_holds_where_it_should_and_not_close_by(condition: str) -> None:
    meets, does_not = MEETS_AND_NOT[condition]
    found = find(condition)
    assert found.holds(meets), found.about
    assert not found.holds(does_not), found.about


def test_every_level_is_told_apart_here() -> None:
    assert {str(one) for one in levels()} == set(MEETS_AND_NOT)


def test_levels_say_what_they_are() -> None:
    clauses = load_registry().clauses
    for one in levels():
        assert one.about.endswith("."), one
        assert set(one.clauses) <= set(clauses), one


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"null", b'{"prompt": 3, "stop": "a", "job_id": [], "seed": true}']
)
def test_a_body_that_is_no_job_meets_no_level_of_its_values_by_accident(body: bytes) -> None:
    scene = Scene(body=body)
    met = {str(one) for one in levels() if one.holds(scene)}
    assert not met & {"prompt=short", "stop=one", "seed=low", "job-id=uuid", "numbers=integer"}


def test_a_condition_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="no dimension 'colour'; there are"):
        find("colour=red")
    with pytest.raises(KeyError, match="no level 'red' of draw; there are greedy, sampled"):
        find("draw=red")


def test_a_level_is_declared_once() -> None:
    with pytest.raises(ValueError, match="two levels are called draw=greedy"):
        level("draw", "greedy")(lambda _: True)
    assert list(GRID["draw"].levels) == ["greedy", "sampled"]

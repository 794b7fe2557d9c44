"""The registry that ships is complete, in own words and fit for test authors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import m0_conformance
import pytest
from m0_conformance.spec.registry import Disposition, Level, Mode, Observable, load_registry

SPEC = Path(m0_conformance.__file__).parent / "spec"
REGISTRY = load_registry()


def test_accounts_for_every_requirement_of_the_spec() -> None:
    assert len(REGISTRY.requirements) == 98
    assert sum(name.startswith("M0-SYS") for name in REGISTRY.requirements) == 8
    assert all(requirement.clauses for requirement in REGISTRY.requirements.values())


def test_system_requirements_come_first_then_numbers_rise() -> None:
    names = list(REGISTRY.requirements)
    assert names[0] == "M0-SYS-2.2.1"
    assert names[8] == "M0-W-1001"
    assert names[-1] == "M0-W-1902"


@pytest.mark.parametrize("name", ["requirements", "clauses", "readings", "profiles"])
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads((SPEC / f"{name}.schema.json").read_text()))


def test_deferred_requirements_are_the_fifteen_of_the_scope_list_less_what_they_keep_in_m0() -> None:
    listed = {1350, 1901, 1340, 1630, 1600, 1601, 1602, 1603, 1604, 1610, 1611, 1620, 1830, 1031, 1902}
    deferred = {
        int(clause.requirement.removeprefix("M0-W-"))
        for clause in REGISTRY.clauses.values()
        if clause.status is Disposition.DEFERRED
    }
    assert listed <= deferred
    # Further deferred clauses: the ready callback (M1), and the correlation header of a parent specification.
    assert deferred - listed == {1110, 1300}


def test_no_active_clause_stands_in_a_dead_or_deferred_requirement() -> None:
    for requirement in REGISTRY.requirements.values():
        if requirement.scope in {"M1", "dead"}:
            assert not requirement.active, requirement.id


def test_gpu_clauses_belong_to_the_largest_profile_only() -> None:
    for clause in REGISTRY.clauses.values():
        if clause.observable is Observable.GPU and clause.status is Disposition.ACTIVE:
            assert clause.profile == "m0", clause.id


def test_nothing_that_needs_our_process_is_promised_to_a_url() -> None:
    for clause in REGISTRY.in_profile("m0-wire"):
        if clause.status is Disposition.ACTIVE:
            assert clause.observable in {Observable.WIRE, Observable.TIMING}, clause.id


def test_a_dependency_is_never_in_a_larger_profile() -> None:
    order = ["m0-wire", "m0-process", "m0"]
    for clause in REGISTRY.clauses.values():
        for other in clause.depends_on:
            assert order.index(REGISTRY.clauses[other].profile) <= order.index(clause.profile), clause.id


def test_texts_are_distinct_whole_sentences() -> None:
    texts = [clause.text for clause in REGISTRY.clauses.values() if clause.status is Disposition.ACTIVE]
    assert len(set(texts)) == len(texts)
    for clause in REGISTRY.clauses.values():
        assert clause.text.endswith("."), clause.id
        assert 20 <= len(clause.text) <= 260, clause.id


def test_no_statement_quotes_the_keyword_style_of_the_spec() -> None:
    for clause in REGISTRY.clauses.values():
        assert re.search(r"worker-orcd|\bMUST\b|\bSHALL\b", clause.text) is None, clause.id


def test_every_reading_decides_a_clause_or_is_bookkeeping() -> None:
    used = {name for clause in REGISTRY.clauses.values() for name in clause.readings}
    idle = {name for name, reading in REGISTRY.readings.items() if name not in used and reading.topic != "identity"}
    assert idle == set()


def test_profiles_nest_and_the_preview_never_gates() -> None:
    wire, process, full = ({clause.id for clause in REGISTRY.judged(name)} for name in ("m0-wire", "m0-process", "m0"))
    assert wire < process < full
    assert not REGISTRY.profiles["m1-preview"].gates
    assert {clause.status for clause in REGISTRY.judged("m1-preview")} == {Disposition.DEFERRED}


def test_what_a_cpu_lacks_for_the_largest_profile_is_gpu_clauses() -> None:
    missing = REGISTRY.missing_in("m0-process")
    assert {"M0-SYS-2.2.1", "M0-W-1020", "M0-W-1021"} <= {requirement.id for requirement in missing}
    for requirement in missing:
        assert any(clause.observable is Observable.GPU for clause in requirement.clauses)
    assert REGISTRY.missing_in("m0") == ()


def test_a_vram_requirement_is_never_decided_without_a_gpu() -> None:
    for name in ("M0-SYS-2.2.1", "M0-W-1011", "M0-W-1012", "M0-W-1020", "M0-W-1021"):
        for clause in REGISTRY.requirements[name].clauses:
            assert clause.observable in {Observable.GPU, Observable.WHITEBOX}, clause.id


def test_execute_is_cut_into_its_separate_limits() -> None:
    names = {clause.name for clause in REGISTRY.requirements["M0-W-1300"].clauses}
    assert {
        "job-id",
        "prompt-max",
        "prompt-unit",
        "max-tokens-range",
        "max-tokens-default",
        "temperature-range",
    } <= names
    assert {
        "top-p-range",
        "top-k-range",
        "repetition-penalty-range",
        "stop-count",
        "stop-length",
        "seed-range",
    } <= names


def test_modes_accept_more_and_more() -> None:
    reading = REGISTRY.readings["E-FRAME"]
    assert [reading.accepts("json-type", mode) for mode in Mode] == [False, False, True]
    assert [REGISTRY.readings["E-422"].accepts("422", mode) for mode in Mode] == [False, True, True]
    assert all(REGISTRY.readings["E-2ND"].accepts("refused", mode) for mode in Mode)
    status = REGISTRY.readings["E-422"]
    with pytest.raises(KeyError, match="E-422 has no variant '418'; known: 400, 422"):
        status.accepts("418")


def test_should_and_may_are_few_and_known() -> None:
    weaker = {clause.id for clause in REGISTRY.judged("m0") if clause.level is not Level.MUST}
    assert "M0-W-1330/within-100ms" in weaker
    assert "M0-W-1030/seed-reported" in weaker
    assert len(weaker) < 12

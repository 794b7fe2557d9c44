from __future__ import annotations

import re
from pathlib import Path

import pytest
from m0_conformance.run.proof import proof_of
from m0_conformance.spec.explain import UnknownNameError, explain, list_clauses, readings_table, replace_readings_table
from m0_conformance.spec.registry import load_registry

REGISTRY = load_registry()
PAGE = Path(__file__).parents[3] / "docs" / "readings.md"


def test_list_names_every_clause_of_every_requirement() -> None:
    text = list_clauses(REGISTRY)
    for requirement in REGISTRY.requirements.values():
        assert f"{requirement.id}  {requirement.title}" in text
    assert text.splitlines()[-1].startswith(f"{len(REGISTRY.clauses)} clauses of 98 requirements: ")


def test_list_by_pattern_profile_and_status() -> None:
    text = list_clauses(REGISTRY, pattern="M0-W-1300/prompt*")
    assert [line.split()[0] for line in text.splitlines()[1:-1]] == ["prompt", "prompt-max", "prompt-unit"]
    assert list_clauses(REGISTRY, pattern="M0-W-1310").count("\n") == 2 + len(
        REGISTRY.requirements["M0-W-1310"].clauses
    )
    assert "M0-W-1100" not in list_clauses(REGISTRY, profile="m0-wire")
    assert "M0-W-1300" in list_clauses(REGISTRY, profile="m0-process")
    assert "chat-template" in list_clauses(REGISTRY, status="disputed")
    assert list_clauses(REGISTRY, pattern="M0-W-9999") == "0 clauses of 0 requirements\n"


def test_explain_a_clause() -> None:
    text = explain(
        REGISTRY, "M0-W-1330/within-100ms", lambda _: {"checks": ["test_speed", "test_other"], "defects": []}
    )
    assert "level       SHOULD (keyword)" in text
    assert "of          M0-W-1330 POST /cancel, line 996" in text
    assert "depends on  M0-W-1330/accepts" in text
    assert "at least 20 observations" in text
    assert "E-CANCEL3" in text
    assert text.endswith("checks      test_speed\n            test_other\ndefects     none\n")


def test_explain_says_why_something_is_not_judged() -> None:
    assert "status      whitebox: Addresses inside the process" in explain(REGISTRY, "M0-W-1220/alignment")
    assert "Not judged" in explain(REGISTRY, "M0-W-1840")
    assert "no defect   A worker that is not ready" in explain(REGISTRY, "M0-W-1120/ready-60s")


def test_explain_names_the_places_of_all_that_stands_for_a_clause() -> None:
    text = explain(REGISTRY, "M0-W-1312/token-index", proof_of)
    assert "line 930 of bin/.specs" in text or "of bin/.specs/01_M0_worker_orcd.md" in text
    assert re.search(r"checks +events::test_fields_of_ordinary_streams  areas/events/checks.py:\d+\n", text)
    assert re.search(r"judges +events.token_index  areas/events/judge.py:\d+\n", text)
    assert re.search(r"index-gap: i skips a number after the third token.  areas/events/defects.py\n", text)
    assert re.search(r"index-from-one: .*  areas/events/defects.(py|toml)\n", text)
    assert text.count("areas/events/clauses.toml\n") == 1


def test_explain_a_reading_and_a_profile() -> None:
    text = explain(REGISTRY, "E-FRAME")
    assert "event-line (default) event: names the type [strict]" in text
    assert "M0-W-1310/event-line" in text
    text = explain(REGISTRY, "m0")
    assert "needs an NVIDIA device; gates" in text
    assert "includes m0-wire, m0-process" in text
    assert "never gates" in explain(REGISTRY, "m1-preview")


def test_everything_can_be_explained() -> None:
    for name in (*REGISTRY.requirements, *REGISTRY.clauses, *REGISTRY.readings, *REGISTRY.profiles):
        text = explain(REGISTRY, name)
        assert text.startswith(name)
        assert max(map(len, text.splitlines()[2:]), default=0) <= 120, name


def test_a_near_miss_is_offered_what_is_near() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown ID 'M0-W-1300/promt-max'; did you mean M0-W-1300/prompt-max"):
        explain(REGISTRY, "M0-W-1300/promt-max")
    with pytest.raises(UnknownNameError, match="did you mean m0-wire"):
        list_clauses(REGISTRY, profile="wire")
    with pytest.raises(UnknownNameError, match="did you mean active"):
        list_clauses(REGISTRY, status="on")


def test_the_page_of_readings_is_not_stale() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replace_readings_table(REGISTRY, page) == page, "run: python -m m0_conformance.spec.explain docs/readings.md"
    assert readings_table(REGISTRY).count("\n| E-") == len(REGISTRY.readings)


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the lines"):
        replace_readings_table(REGISTRY, "# Readings\n")

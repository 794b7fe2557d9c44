from __future__ import annotations

from m0_conformance.spec.coverage import coverage
from m0_conformance.spec.registry import load_registry

REGISTRY = load_registry()
CHECKED = [name for name, clause in REGISTRY.clauses.items() if clause.owes_check]
BROKEN = [name for name, clause in REGISTRY.clauses.items() if clause.owes_defect]
PROMPT = "M0-W-1300/prompt-max"


def test_complete_when_all_agree() -> None:
    found = coverage(REGISTRY, {"all": CHECKED}, {"all": BROKEN}, {})
    assert found.complete
    assert found.problems() == []


def test_gpu_clauses_owe_a_check_and_no_defect() -> None:
    assert "M0-W-1021/oom-event" in CHECKED
    assert "M0-W-1021/oom-event" not in BROKEN
    assert "M0-W-1220/alignment" not in CHECKED


def test_a_clause_without_a_check() -> None:
    found = coverage(REGISTRY, {"some": [name for name in CHECKED if name != PROMPT]}, {"all": BROKEN})
    assert found.problems() == [f"active clause without a check: {PROMPT}"]


def test_a_clause_without_a_defect_needs_a_reason() -> None:
    some = {"some": [name for name in BROKEN if name != PROMPT]}
    sentence = f"active clause without a defect, or a reason in `no_defect`: {PROMPT}"
    assert coverage(REGISTRY, {"all": CHECKED}, some).problems() == [sentence]
    assert coverage(REGISTRY, {}, some).problems("defect") == [sentence]


def test_without_defects_only_checks_are_compared() -> None:
    assert coverage(REGISTRY, {"all": CHECKED}).complete


def test_names_that_lead_nowhere() -> None:
    found = coverage(
        REGISTRY,
        {"all": CHECKED, "typo": ["M0-W-1300/promt-max"], "inside": ["M0-W-1220/alignment"], "idle": []},
        {"all": BROKEN, "typo": ["M0-W-1"], "soft": ["M0-W-1800/three-lines"], "idle": []},
        {"soft": ["M0-W-7"]},
    )
    assert found.checks_of_unknown == ("typo: M0-W-1300/promt-max",)
    assert found.checks_of_inactive == ("inside: M0-W-1220/alignment (whitebox)",)
    assert found.checks_of_nothing == ("idle",)
    assert found.defects_of_unknown == ("typo: M0-W-1", "soft: M0-W-7")
    assert found.defects_of_inactive == ("soft: M0-W-1800/three-lines (disputed)",)
    assert found.defects_of_nothing == ("idle",)
    assert len(found.problems()) == 7


def test_deferred_and_disputed_clauses_may_be_checked() -> None:
    extra = ["M0-W-1604/p99", "M0-W-1800/three-lines"]
    assert coverage(REGISTRY, {"all": CHECKED, "more": extra}, {"all": BROKEN, "preview": ["M0-W-1604/p99"]}).complete

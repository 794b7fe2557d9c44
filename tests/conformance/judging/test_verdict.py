from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from judging_samples import recording
from m0_conformance.judging.expected import Expected, ExpectError, Ledger, read_expected
from m0_conformance.judging.finding import Finding, Status, worst
from m0_conformance.judging.outcome import Outcome, RunFacts
from m0_conformance.judging.verdict import roll_up
from m0_conformance.report.document import seal
from m0_conformance.run.session import exit_code
from m0_conformance.spec.registry import Registry, load_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m0_conformance.recording.transcript import Recording

REGISTRY = load_registry()
CLAUSE = "M0-W-1300/job-id"
BASE = recording(clauses=("M0-W-1300/job-id",))


def facts(profile: str = "m0-wire", **changes: Any) -> RunFacts:
    values: dict[str, Any] = {
        "profile": profile,
        "suite": {"name": "s", "version": "0", "registry_sha": "0" * 64, "testset_sha": "0" * 64, "selftest": None},
        "target": {
            "kind": "command",
            "identity": {},
            "device": "cpu",
            "device_note": None,
            "url": None,
            "command": "w",
        },
        "run": {
            "started": "2026-01-01T00:00:00Z",
            "duration_s": 1,
            "seed": 1,
            "options": {},
            "timing": {"floor_us": 1.0, "scale": 1.0},
        },
    }
    return RunFacts(**{**values, **changes})


def finding(clause: str, status: Status = Status.PASS, key: str = "ok", n: int = 5, **more: Any) -> Finding:
    names = tuple(f"x{i}" for i in range(n))
    return Finding(clause, status, key, "m", exchanges=names, recording=BASE.sha, check=BASE.check, **more)


def all_pass(profile: str = "m0-wire") -> list[Finding]:
    return [finding(clause.id, n=max(5, clause.min_evidence)) for clause in REGISTRY.judged(profile)]


def judge(findings: list[Finding], registry: Registry = REGISTRY, **changes: Any) -> Outcome:
    recordings: dict[str, Recording] = changes.pop("recordings", {BASE.sha: BASE})
    outcome = roll_up(registry, recordings, findings, facts(**changes))
    seal(outcome.report)  # whatever the verdict says must be a valid report
    return outcome


def spoiled(status: Status, key: str = "bad", clause: str = CLAUSE) -> list[Finding]:
    return [*all_pass(), finding(clause, status, key)]


def test_worst_wins_and_info_never_counts() -> None:
    assert worst([Status.PASS, Status.FAIL, Status.WARN]) is Status.FAIL
    assert worst([Status.PASS, Status.NOT_TESTED]) is Status.NOT_TESTED
    assert worst([Status.PASS, Status.INFO]) is Status.PASS
    assert worst([]) is Status.NOT_TESTED


def test_everything_kept_is_conformant_and_names_the_next_profile() -> None:
    outcome = judge(all_pass("m0-process"), profile="m0-process")
    assert outcome.verdict == "CONFORMANT"
    count = len(REGISTRY.missing_in("m0-process"))
    assert outcome.line == (f"CONFORMANT in m0-process; m0 needs an NVIDIA device: {count} requirements not tested")
    assert len(outcome.report["requirements"]) == 98
    assert exit_code(outcome, None, allow_partial=False) == 0


def test_m0_is_never_more_than_partial_without_a_device() -> None:
    findings = [finding(clause.id) for clause in REGISTRY.clauses.values()]
    outcome = judge(findings, profile="m0")
    assert outcome.verdict == "PARTIAL"
    assert exit_code(outcome, None, allow_partial=False) == 3
    assert exit_code(outcome, None, allow_partial=True) == 0
    gpu = [r for r in outcome.clauses.values() if r.clause.observable == "gpu" and r.clause.status == "active"]
    assert gpu
    assert {r.status for r in gpu} == {Status.NOT_TESTED}


@pytest.mark.parametrize(
    ("status", "verdict", "code"),
    [
        (Status.FAIL, "NON_CONFORMANT", 1),
        (Status.ERROR, "INCONCLUSIVE", 3),
        (Status.INCONCLUSIVE, "INCONCLUSIVE", 3),
        (Status.BLOCKED, "PARTIAL", 3),
        (Status.NOT_TESTED, "PARTIAL", 3),
        (Status.WARN, "CONFORMANT", 0),
        (Status.NA, "CONFORMANT", 0),
    ],
)
def test_one_clause_decides(status: Status, verdict: str, code: int) -> None:
    outcome = judge(spoiled(status))
    assert outcome.verdict == verdict
    assert exit_code(outcome, None, allow_partial=False) == code


def test_an_empty_run_is_partial() -> None:
    outcome = judge([], recordings={})
    assert outcome.verdict == "PARTIAL"
    assert set(outcome.report["summary"]["by_status"]) <= {"NOT_TESTED", "NA", "INFO"}


@pytest.mark.parametrize("changes", [{"filtered": True}, {"interrupted": True}, {"expected_checks": frozenset({"a"})}])
def test_less_than_the_whole_set_is_partial(changes: dict[str, Any]) -> None:
    assert judge(all_pass(), **changes).verdict == "PARTIAL"


def test_the_frozen_set_itself_is_conformant() -> None:
    assert judge(all_pass(), expected_checks=frozenset({BASE.check})).verdict == "CONFORMANT"


def test_a_pass_needs_its_evidence() -> None:
    clause = next(c for c in REGISTRY.judged("m0-wire") if c.min_evidence == 3)
    findings = [f for f in all_pass() if f.clause != clause.id] + [finding(clause.id, n=2)]
    outcome = judge(findings)
    assert outcome.clauses[clause.id].status is Status.NOT_TESTED
    assert "3 are needed" in (outcome.clauses[clause.id].reason or "")


def test_out_of_reach_makes_no_hole_where_another_check_saw_the_clause() -> None:
    assert judge(spoiled(Status.NOT_TESTED, "out-of-reach")).verdict == "CONFORMANT"
    assert judge(spoiled(Status.NOT_TESTED, "not-exercised")).verdict == "PARTIAL"


def test_a_should_warns_and_a_may_informs() -> None:
    should = next(c for c in REGISTRY.judged("m0-process") if c.level == "SHOULD")
    outcome = judge([*all_pass("m0-process"), finding(should.id, Status.FAIL, "bad")], profile="m0-process")
    assert outcome.verdict == "CONFORMANT"
    assert outcome.clauses[should.id].status is Status.WARN
    assert "1 warning" in outcome.line


def test_a_failed_prerequisite_blocks_what_rests_on_it() -> None:
    child = next(c for c in REGISTRY.judged("m0-wire") if c.depends_on)
    parent = child.depends_on[0]
    findings = [*all_pass(), finding(child.id, Status.FAIL, "bad"), finding(parent, Status.FAIL, "bad")]
    outcome = judge(findings)
    assert outcome.clauses[parent].status is Status.FAIL
    assert outcome.clauses[child.id].status is Status.BLOCKED
    assert outcome.clauses[child.id].findings[0].caused_by == parent


def test_a_consequence_names_its_cause_and_is_not_counted_twice() -> None:
    cause, effect = "M0-W-1310/event-line", CLAUSE
    findings = [*spoiled(Status.FAIL, clause=cause), finding(effect, Status.FAIL, "bad", caused_by=cause)]
    assert judge(findings).clauses[effect].status is Status.BLOCKED
    assert judge(findings[:-2] + findings[-1:]).clauses[effect].status is Status.FAIL


def test_clauses_that_are_not_active_never_gate() -> None:
    others = [c for c in REGISTRY.clauses.values() if c.status != "active"]
    outcome = judge([*all_pass(), *(finding(c.id, Status.FAIL, "bad") for c in others)])
    assert outcome.verdict == "CONFORMANT"


def test_the_doctors_complaint_is_everybodys_reason() -> None:
    doctor = recording(check="doctor")
    doctor.facts = {"complaint": "nothing listens there", "refused": True}
    outcome = judge([], recordings={doctor.sha: doctor})
    assert outcome.verdict == "INCONCLUSIVE"
    assert "nothing listens there" in outcome.line
    assert outcome.clauses[CLAUSE].status is Status.BLOCKED


def expected(**changes: Any) -> Expected:
    return replace(Expected(CLAUSE, "bad", "known", dt.date(2100, 1, 1)), **changes)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (expected(), None),
        (expected(fingerprint="other"), "unexpected"),
        (expected(clause="M0-W-1300/jobid"), "unmatched"),
        (expected(until=dt.date(2020, 1, 1)), "expired"),
    ],
)
def test_the_ledger(entry: Expected, field: str | None) -> None:
    outcome = judge(spoiled(Status.FAIL))
    ledger = Ledger.of([entry], outcome, REGISTRY)
    assert ledger.clean is (field is None)
    if field is not None:
        assert getattr(ledger, field)
    assert exit_code(outcome, ledger, allow_partial=False) == (0 if field is None else 1)
    assert outcome.verdict == "NON_CONFORMANT"


def test_a_stale_expectation_fails_even_a_conformant_worker() -> None:
    outcome = judge(all_pass())
    ledger = Ledger.of([expected()], outcome, REGISTRY)
    assert ledger.stale
    assert exit_code(outcome, ledger, allow_partial=False) == 1
    assert Ledger.of([expected(flaky=True)], outcome, REGISTRY).clean


def test_what_a_larger_profile_asks_for_may_be_expected_and_need_not_be() -> None:
    other = next(clause.id for clause in REGISTRY.judged("m0-process") if clause not in REGISTRY.judged("m0-wire"))
    outcome = judge([*all_pass(), finding(other, Status.FAIL, "bad")])
    assert outcome.verdict == "CONFORMANT"
    assert Ledger.of([], outcome, REGISTRY).clean
    assert Ledger.of([expected(clause=other)], outcome, REGISTRY).clean
    assert not Ledger.of([], judge(spoiled(Status.FAIL)), REGISTRY).clean


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "expected.toml"
        path.write_text(text)
        return path

    return write


def test_expectations_are_read(written: Callable[[str], Path]) -> None:
    path = written(f'[[expected]]\nclause = "{CLAUSE}"\nfingerprint = "bad"\nreason = "r"\nuntil = "2100-01-01"\n')
    assert read_expected(path) == [Expected(CLAUSE, "bad", "r", dt.date(2100, 1, 1))]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = [", "TOML"),
        ('[[expected]]\nclaus = "x"\n', "did you mean 'clause'"),
        (
            f'[[expected]]\nclause = "{CLAUSE}"\nfingerprint = "b"\nreason = "TODO"\nuntil = "2100-01-01"\n',
            "still to be",
        ),
        (f'[[expected]]\nclause = "{CLAUSE}"\nfingerprint = "b"\nreason = "r"\nuntil = "soon"\n', "needs a day"),
        ("[expect]\n", "unknown table"),
    ],
)
def test_bad_expectations_are_refused(written: Callable[[str], Path], text: str, word: str) -> None:
    with pytest.raises(ExpectError, match=word):
        read_expected(written(text))

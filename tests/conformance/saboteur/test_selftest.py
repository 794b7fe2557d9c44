"""When a defect counts as caught, what the catalogue owes, and when a published matrix is shown."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.recording.transcript import Launch, LogLine, Recording
from m0_conformance.run.options import RunOptions
from m0_conformance.saboteur import runner
from m0_conformance.saboteur.catalogue import catalogue
from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.pairs import find_conditional
from m0_conformance.saboteur.proxy import FAULT
from m0_conformance.saboteur.result import Result, ended_by_itself, trouble
from m0_conformance.saboteur.selftest import SENTINELS, gaps, options_of
from m0_conformance.spec import kill_matrix as matrix
from m0_conformance.spec.registry import load_registry
from m0_conformance.spec.seal import suite_seal

if TYPE_CHECKING:
    from pathlib import Path


class Seeded(Defect):
    kills = ("A/one", "A/two")
    collateral = ("B/one",)


class Odd(Defect):
    oddity = True


@pytest.mark.parametrize(
    ("failed", "good"),
    [
        ({"A/one", "A/two"}, True),
        ({"A/one", "A/two", "B/one"}, True),
        ({"A/one"}, False),
        ({"A/one", "A/two", "C/one"}, False),
        (set(), False),
    ],
)
def test_caught_means_exactly_its_clauses(failed: set[str], good: bool) -> None:
    assert Result(Seeded, failed=failed).good is good


def test_trouble_is_never_a_catch() -> None:
    assert not Result(Seeded, failed={"A/one", "A/two"}, trouble="no report").good
    assert not Result(Odd, trouble="no report").good


def test_an_oddity_is_flagged_by_anything_red() -> None:
    assert Result(Odd).good
    assert not Result(Odd, failed={"A/one"}).good
    assert "also red: A/one" in Result(Odd, failed={"A/one"}).words()


def report(**clause: Any) -> dict[str, Any]:
    return {"requirements": [{"clauses": [{"id": "A/one", "disposition": "active", "reason": "r", **clause}]}]}


def test_errors_of_the_suite_and_blocked_clauses_are_trouble() -> None:
    assert "the suite itself failed" in trouble(report(status="ERROR"), Seeded)
    assert "is blocked" in trouble(report(status="BLOCKED"), Seeded)
    assert trouble(report(status="FAIL"), Seeded) == ""


def stored(folder: Path, **launch: Any) -> Path:
    recording = Recording("check", ())
    recording.launches.append(Launch("worker", [], shared=True, **launch))
    (folder / "transcripts").mkdir()
    (folder / "transcripts" / "a.json").write_bytes(recording.encode())
    return folder


def test_a_worker_that_died_is_no_catch(tmp_path: Path) -> None:
    folder = stored(tmp_path, exit_code=-11)
    assert "ended by itself with exit code -11" in ended_by_itself(folder, Seeded)

    class Crash(Seeded):
        crashes = True

    assert ended_by_itself(folder, Crash) == ""


def test_a_worker_that_was_signalled_may_end(tmp_path: Path) -> None:
    assert ended_by_itself(stored(tmp_path, exit_code=0, signals=[("SIGTERM", 1.0)]), Seeded) == ""


def test_a_defect_that_raised_is_no_catch(tmp_path: Path) -> None:
    lines = [LogLine("stderr", 0.1, f"{FAULT} x: KeyError: 'i'")]
    assert "the defect itself failed" in ended_by_itself(stored(tmp_path, lines=lines), Seeded)


def test_every_clause_owes_a_defect_or_a_reason() -> None:
    registry = load_registry()
    wanted = sorted(name for name, clause in registry.clauses.items() if clause.owes_defect)
    (excused,) = (name for name, clause in registry.clauses.items() if clause.no_defect)

    class One(Defect):
        name = "one"
        kills = (wanted[0], excused)
        collateral = ("M0-W-0000/no-such",)

    assert len(wanted) > 100
    found = gaps(registry, [One])
    One.name = ""
    assert f"active clause without a defect, or a reason in `no_defect`: {wanted[1]}" in found
    assert "defect of an unknown clause: one: M0-W-0000/no-such" in found
    assert f"clause with a defect that says in `no_defect` why there is none: {excused}" in found


def test_the_catalogue_owes_nothing() -> None:
    kinds = list(catalogue().values())
    assert gaps(load_registry(), kinds) == []
    assert sum(not kind.oddity for kind in kinds) >= 80


def test_oddities_are_looked_at_by_more_than_the_sentinels() -> None:
    clauses = load_registry().clauses
    for name, kind in catalogue().items():
        assert kind.about.endswith("."), name
        assert kind.oddity or kind.source, f"{name} has no source"
        assert set(kind.watch) <= set(clauses), name
        if kind.oddity and name != "truth":
            assert set(kind.watch) - set(SENTINELS), name


def test_a_run_holds_the_checks_of_its_clauses_and_the_sentinels(tmp_path: Path) -> None:
    chosen = options_of(catalogue()["index-gap"], "worker", tmp_path, full=False)
    assert chosen.requirement == ["M0-W-1312/token-index", *SENTINELS]
    assert chosen.repeats == ["none"]
    assert "--defect index-gap" in (chosen.worker_command or "")
    assert options_of(catalogue()["index-gap"], "worker", tmp_path, full=True).requirement == []
    assert options_of(catalogue()["gguf-magic-ignored"], "worker", tmp_path, full=False).requirement == [
        "M0-W-1210/magic"
    ], "its streams are the worker's own"
    under = find_conditional("index-gap@after=cancel")
    assert under is not None
    chosen = options_of(under, "worker", tmp_path / "run", full=False)
    assert "M0-W-1330/next-job" in chosen.requirement
    assert chosen.repeats == ["M0-W-1312/token-index"]
    assert chosen.fail_fast
    assert f"--tally {tmp_path / 'run.tally'}" in (chosen.worker_command or "")


# ---- the matrix ---------------------------------------------------------------------------------------------------

MATRIX = {
    "defects": [{"caught": True}, {"caught": False}],
    "oddities": [{"flagged": False}, {"flagged": True}, {"flagged": False}],
}


def test_a_matrix_of_another_suite_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kill_matrix.json"
    assert matrix.published(path) is None
    matrix.publish(MATRIX, suite_seal(), path)
    assert matrix.published(path) == MATRIX
    assert path.read_text().count("\n") == 11, "one row a line"
    monkeypatch.setattr(matrix, "suite_seal", lambda: "another")
    assert matrix.published(path) is None


def test_counts() -> None:
    none = {"conditional_caught": 0, "conditional_drawn": 0, "conditional_catalogue": 0}
    assert matrix.counts(MATRIX) == {"killed": 1, "defects": 2, "benign_flagged": 1, "benign": 3, **none}
    rows = [
        {"caught": True, "invisible": None},
        {"caught": False, "invisible": None},
        {"caught": False, "invisible": "why"},
    ]
    found = matrix.counts({**MATRIX, "conditional": {"catalogue": 1000, "drawn": rows}})
    assert (found["conditional_caught"], found["conditional_drawn"], found["conditional_catalogue"]) == (1, 2, 1000)


# ---- the runner ---------------------------------------------------------------------------------------------------


def test_runs_are_separate_processes_and_slow_ones_are_stopped(tmp_path: Path) -> None:
    def pretend(options: RunOptions) -> None:
        (options.report_dir / "pid").write_text(str(os.getpid()))
        if options.seed == 2:
            raise ValueError("broken")
        if options.seed == 3:
            time.sleep(60)

    wanted = [(RunOptions(report_dir=tmp_path / str(seed), seed=seed), tmp_path / str(seed)) for seed in (1, 2, 3)]
    ended = {one.number: one for one in runner.run_all(pretend, wanted, 2, [30.0, 30.0, 0.3])}
    assert [ended[number].timed_out for number in range(3)] == [False, False, True]
    assert ended[2].seconds < 20
    assert "ValueError: broken" in (tmp_path / "2" / runner.OUTPUT).read_text()
    assert len({(tmp_path / str(seed) / "pid").read_text() for seed in (1, 2, 3)} | {str(os.getpid())}) == 4

"""The model of jobs and cancels, told histories step by step."""

from __future__ import annotations

from m0_conformance.judging.job_model import NOTICE_S, Model


def clause(complaint: tuple[str, str, str] | None) -> str | None:
    return None if complaint is None else complaint[0]


def test_a_job_that_ends_needs_no_excuse() -> None:
    model = Model()
    model.asked("a")
    assert model.ended("a", "end", None) is None


def test_an_error_needs_one() -> None:
    model = Model()
    model.asked("a")
    assert clause(model.ended("a", "error", "INTERNAL")) == "M0-SYS-6.3.1/valid-job-ends"


def test_cancelled_only_by_its_own_cancel() -> None:
    model = Model()
    for job in "ab":
        model.asked(job)
    assert model.cancel("a") == "alive"
    assert model.ended("a", "error", "CANCELLED") is None
    assert clause(model.ended("b", "error", "CANCELLED")) == "M0-W-1330/only-named-job"


def test_a_late_cancel_must_not_hit_the_next_job() -> None:
    model = Model()
    model.asked("a")
    model.ended("a", "end", None)
    assert model.cancel("a") == "over"
    model.asked("b")
    assert clause(model.ended("b", "error", "CANCELLED")) == "M0-W-1330/finished-job"


def test_answers_to_cancels() -> None:
    model = Model()
    assert model.cancel("x") == "unknown"
    assert [clause(model.cancel_answered("unknown", status)) for status in (202, 404, 500, None)] == [
        None, None, "M0-W-1330/unknown-job", "M0-W-1330/unknown-job",
    ]  # fmt: skip
    assert clause(model.cancel_answered("over", 409)) == "M0-W-1330/finished-job"
    assert model.cancel_answered("alive", 500) is None  # judged by M0-W-1330/accepts


def test_turned_away_only_while_something_runs() -> None:
    model = Model()
    model.asked("a")
    model.asked("b")
    assert model.refused("b", 1.0) is None
    model.left("a", 2.0)
    model.asked("c")
    assert model.refused("c", 2.5) is None
    model.asked("d")
    assert clause(model.refused("d", 2.0 + NOTICE_S)) == "M0-W-1300/streams"

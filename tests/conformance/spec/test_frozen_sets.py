"""A run that is not the frozen set of checks proves less than its profile's name says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from m0_conformance.judging.outcome import RunFacts
from m0_conformance.judging.verdict import frozen_set_differences
from m0_conformance.recording.transcript import Outcome, Recording
from m0_conformance.spec.check_sets import ANY, FrozenError, freeze, frozen_checks

if TYPE_CHECKING:
    from pathlib import Path

CLAUSES = ("M0-W-1311/started-once",)


def recorded(**outcomes: Outcome) -> dict[str, Recording]:
    return {name: Recording(name, CLAUSES, outcome=outcome) for name, outcome in outcomes.items()}


def facts(expected: set[str] | None, known: set[str] | None = None) -> RunFacts:
    chosen = None if expected is None else frozenset(expected)
    return RunFacts("m0-wire", {}, {}, {}, expected_checks=chosen, known_checks=frozenset(known or set()))


def test_the_set_itself() -> None:
    assert frozen_set_differences(recorded(a="completed", b="not-exercised"), facts({"a", "b"})) == []
    assert frozen_set_differences(recorded(a="completed"), facts(None)) == []


def test_a_missing_and_an_unknown_check_are_named() -> None:
    assert frozen_set_differences(recorded(a="completed"), facts({"a", "b"})) == ["b"]
    assert frozen_set_differences(recorded(a="completed", z="completed"), facts({"a"})) == ["z"]
    assert frozen_set_differences(recorded(a="completed", b="blocked"), facts({"a", "b"})) == ["b"]


def test_a_larger_profiles_check_does_no_harm() -> None:
    assert frozen_set_differences(recorded(a="completed", z="completed"), facts({"a"}, {"a", "z"})) == []


def test_a_check_that_this_target_cannot_show_came_up() -> None:
    assert frozen_set_differences(recorded(a="completed", b="out-of-reach"), facts({"a", "b"})) == []


def test_the_digest_is_checked(tmp_path: Path) -> None:
    path = freeze({"m0-wire": ["a"], ANY: ["a", "b"]}, tmp_path)
    assert frozen_checks(ANY, tmp_path) == {"a", "b"}
    path.write_text(path.read_text().replace('"b"', '"c"'))
    with pytest.raises(FrozenError):
        frozen_checks(ANY, tmp_path)

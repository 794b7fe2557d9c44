from __future__ import annotations

import operator_results
from m0_conformance.judging.finding import Status
from operator_results import Results
from transcript_edits import OPERATORS, corpus


def test_the_corpus_is_kept_by_every_judge() -> None:
    operator_results.load_all()
    for name, recording in corpus().items():
        found = operator_results.statuses(recording)
        assert set(found.values()) <= {Status.PASS, Status.NA}, (name, found)


def test_no_mutant_survives_without_a_reason(results: Results) -> None:
    assert results.unchanged == []


def test_enough_mutants_of_every_operator(results: Results) -> None:
    assert results.mutants >= 2000
    killing = results.killed.keys() | results.withheld.keys()
    harmless = {name for name, entry in OPERATORS.items() if not entry.identity} - killing
    assert harmless == set(), "an operator that never shows proves nothing"


def test_identities_disturb_no_judge(results: Results) -> None:
    assert results.identities >= 400
    assert results.disturbed == []


def test_no_judge_crashes_on_a_damaged_recording(results: Results) -> None:
    assert results.crashed == []


def test_every_allowance_is_needed(results: Results) -> None:
    stale = [entry for entry in operator_results.read_allowed() if entry not in results.used]
    assert stale == []

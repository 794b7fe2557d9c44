from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.report import exports
from m0_conformance.report.diff import compare, render_diff
from m0_conformance.report.matrix import build_matrix, render_matrix

if TYPE_CHECKING:
    from report_pages import Made


def clause(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for r in report["requirements"] for c in r["clauses"] if c["id"] == name)


def test_a_report_equals_itself(bad: Made) -> None:
    difference = compare(bad.report, bad.report)
    assert {change.letter for change in difference.changes} == {"U"}
    assert difference.exit_code == 0
    assert render_diff(difference).startswith("NON_CONFORMANT -> NON_CONFORMANT: 0 regressions; 0 added")


def test_from_good_to_bad_every_fault_is_a_regression(good: Made, bad: Made) -> None:
    difference = compare(good.report, bad.report)
    assert difference.exit_code == 1
    worse = {change.clause for change in difference.regressions}
    assert {"M0-W-1824/no-replacement", "M0-W-1621/percentages", "M0-W-1301/no-interleave"} <= worse
    assert len(worse) == 12
    text, changed = exports.diff(good.report, bad.report)
    assert changed
    assert "! C  M0-W-1824/no-replacement  PASS -> FAIL  new: replacement-character" in text


def test_from_bad_to_good_nothing_is_a_regression(good: Made, bad: Made) -> None:
    difference = compare(bad.report, good.report)
    assert difference.exit_code == 0
    assert difference.count("C") == 12
    assert "  C  M0-W-1824/no-replacement  FAIL -> PASS  gone: replacement-character" in render_diff(difference)


def test_failing_in_another_way_is_a_regression(bad: Made) -> None:
    after = copy.deepcopy(bad.report)
    clause(after, "M0-W-1824/no-replacement")["findings"][0]["key"] = "ill-formed"
    difference = compare(bad.report, after)
    assert [change.new_failures for change in difference.regressions] == [("ill-formed",)]
    assert difference.regressions[0].fixed == ("replacement-character",)


@pytest.mark.parametrize(("before", "after", "worse"), [
    ("PASS", "NOT_TESTED", True), ("PASS", "WARN", True), ("WARN", "FAIL", True), ("NOT_TESTED", "INCONCLUSIVE", True),
    ("PASS", "NA", False), ("PASS", "INFO", False), ("FAIL", "NOT_TESTED", False), ("NA", "PASS", False),
])  # fmt: skip
def test_what_counts_as_worse(good: Made, before: str, after: str, worse: bool) -> None:
    one, two = copy.deepcopy(good.report), copy.deepcopy(good.report)
    clause(one, "M0-W-1311/one-terminal")["status"] = before
    clause(two, "M0-W-1311/one-terminal")["status"] = after
    assert bool(compare(one, two).regressions) is worse


def test_a_clause_that_only_one_report_knows_is_the_suites_change(good: Made) -> None:
    after = copy.deepcopy(good.report)
    moved = clause(after, "M0-W-1311/one-terminal")
    moved["id"], moved["status"] = "M0-W-1311/exactly-one", "FAIL"
    difference = compare(good.report, after)
    letters = {change.clause: change.letter for change in difference.changes if change.letter != "U"}
    assert letters == {"M0-W-1311/exactly-one": "A", "M0-W-1311/one-terminal": "D"}
    assert difference.exit_code == 0


def test_what_makes_two_reports_hard_to_compare_is_said(good: Made) -> None:
    after = copy.deepcopy(good.report)
    after["profile"] = "m0-wire"
    after["suite"]["testset_sha"] = "c3" * 32
    after["target"]["device"] = "cuda"
    text = render_diff(compare(good.report, after))
    for words in (
        "different profiles: m0-process and m0-wire",
        "different sets of checks",
        "different devices: cpu and cuda",
    ):
        assert words in text


def test_the_matrix_lines_up_reports_that_know_different_requirements(good: Made, bad: Made) -> None:
    short = copy.deepcopy(bad.report)
    del short["requirements"][5:]
    matrix = build_matrix([("good", good.report), ("", short)])
    assert len(matrix.rows) == 98
    assert matrix.names == ["good", "python -m m0_worker"]
    assert matrix.rows[50][2][1] is None
    text = render_matrix(matrix)
    assert "1  good: Conformant in m0-process" in text
    row = next(line for line in text.splitlines() if line.startswith("M0-SYS-6.3.5"))
    assert row.split()[1] == "P"
    assert len(exports.matrix([("good", good.report), ("bad", bad.report)], markdown=True).splitlines()) == 98 + 3

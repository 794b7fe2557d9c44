"""Terminal, JUnit, Markdown, badge: what each says of a bad worker and of a good one."""

from __future__ import annotations

import copy
import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from m0_conformance.report import exports, problems, view
from m0_conformance.report.badge import render_badge
from m0_conformance.report.document import seal
from m0_conformance.report.junit import render_junit
from m0_conformance.report.markdown import render_markdown, write_step_summary
from m0_conformance.report.terminal import print_report
from report_streams import HOSTILE, SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from report_pages import Made


def terminal(made: Made, *, colour: bool = False) -> str:
    out = io.StringIO()
    print_report(made.report, out, colour=colour)
    return out.getvalue()


TEXTS = {
    "terminal": terminal,
    "junit": lambda made: render_junit(made.report),
    "md": lambda made: render_markdown(made.report),
    "html": lambda made: made.html,
}


def outside_of_fences(text: str) -> str:
    """Markdown without its code blocks, in which markup is text."""
    return re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def test_the_verdict_is_the_first_line(bad: Made, good: Made) -> None:
    assert terminal(bad).splitlines()[0] == bad.report["verdict_line"]
    assert terminal(good).splitlines()[0] == good.report["verdict_line"]


def test_counts_are_counts_and_never_a_percentage(bad: Made, good: Made) -> None:
    must = bad.report["summary"]["by_level"]["MUST"]
    applicable = sum(must.values()) - must.get("NA", 0) - must.get("INFO", 0)
    assert f"MUST {must['PASS']}/{applicable} (7 failed, 1 harness error, 1 inconclusive, 1 blocked" in terminal(bad)
    for made in (bad, good):
        for name in ("terminal", "junit", "md"):
            assert "%" not in re.sub(r"at 95 %", "", TEXTS[name](made)), name


def test_what_cannot_be_seen_is_counted_with_its_reason(good: Made) -> None:
    hidden = view.unseen(good.report)
    total = sum(len(group.ids) for group in hidden)
    assert total > 10
    assert f"{total} of 98 requirements not visible from outside" in terminal(good)
    for group in hidden:
        assert f"{len(group.ids)} {group.why}" in terminal(good)


def test_a_failure_says_requirement_expected_actual_place_lines_and_how_to_repeat_it(bad: Made) -> None:
    text = terminal(bad)
    block = text[text.index("FAIL  M0-W-1824/no-replacement") :].split("\n\n")[0].splitlines()
    assert block[0] == "FAIL  M0-W-1824/no-replacement   MUST   test_utf8.py::test_split"
    assert block[1].startswith("  spec L2125   ")
    assert block[3] == "  expected  every token event is well-formed UTF-8 without U+FFFD"
    assert block[4].startswith("  actual    event 18 (byte 745, +0.214 s): ")
    assert block[6] == '    > 18  event: token   {"t":"\ufffd","i":17}'
    assert block[8].startswith("  curl -N ")
    assert block[9].startswith("  m0-conformance replay transcripts/")
    assert block[10] == "  m0-conformance explain M0-W-1824/no-replacement"


def test_a_consequence_names_its_cause_and_what_cannot_gate_says_so(bad: Made) -> None:
    text = terminal(bad)
    assert "caused_by: M0-W-1330/within-5s" in text
    assert "FAIL  M0-W-1604/p99  (never gating)" in text
    assert text.index("FAIL  M0-W-1824") < text.index("M0-W-1604/p99")


def test_colour_changes_nothing_but_colour(bad: Made) -> None:
    coloured = terminal(bad, colour=True)
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == terminal(bad)


def test_a_narrow_terminal_encoding_is_no_crash(bad: Made) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_report(bad.report, out)


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_a_worker_sent_can_act(bad: Made, name: str) -> None:
    text = TEXTS[name](bad)
    assert not set(text) & set("\x1b\x00\u202e\u2066\ud800")
    assert "U+202E" in text
    text.encode("utf-8")
    if name != "terminal":
        assert HOSTILE[:20] not in outside_of_fences(text)  # "<script>" and more, unescaped


@pytest.mark.parametrize("name", TEXTS)
def test_no_secret_and_no_home_leaves_the_machine(bad: Made, name: str) -> None:
    assert SECRET in "".join(path.read_text() for path in (bad.folder / "transcripts").iterdir())
    text = TEXTS[name](bad)
    assert SECRET not in text
    assert "/home/ann" not in text


def test_junit_has_one_case_a_clause_with_the_right_outcome(bad: Made) -> None:
    root = ET.fromstring(render_junit(bad.report))  # noqa: S314 - our own text
    cases = {case.get("name"): case for case in root.iter("testcase")}
    clauses = {clause["id"]: clause for _, clause in view.all_clauses(bad.report)}
    assert cases.keys() == clauses.keys()
    tags = {"FAIL": "failure", "ERROR": "error", "INCONCLUSIVE": "error", "BLOCKED": "error"}
    tags |= {"NOT_TESTED": "skipped", "NA": "skipped"}
    for name, clause in clauses.items():
        found = [child.tag for child in cases[name]]
        wanted = tags.get(clause["status"])
        assert found == ([wanted] if wanted else found)
        if not wanted:
            assert not set(found) & {"failure", "error", "skipped"}
    assert root.get("tests") == str(len(clauses))
    assert root.get("failures") == str(sum(c["status"] == "FAIL" for c in clauses.values()))
    assert int(root.get("errors", "")) == 3
    assert sum(int(suite.get("tests", "")) for suite in root.iter("testsuite")) == len(clauses)


def test_junit_reads_well_to_a_strict_reader(bad: Made) -> None:
    text = render_junit(bad.report)
    assert all(ch in "\n\t" or ch >= " " for ch in text)
    failure = ET.fromstring(text).find(".//testcase[@name='M0-W-1824/no-replacement']/failure")  # noqa: S314 - our own file
    assert failure is not None
    assert "expected  every token event" in (failure.text or "")


def test_markdown_folds_each_problem_and_escapes_what_would_be_markup(bad: Made) -> None:
    text = render_markdown(bad.report)
    assert text.startswith("## ❌ M0 m0-process: Not conformant\n")
    assert text.count("<details>") == text.count("</details>") == len(problems.attention(bad.report))
    outside = outside_of_fences(text)
    assert len(outside) < len(text)
    assert not re.search(r"<(?!/?(details|summary|b|sub)\b)", outside)


def test_the_step_summary_is_appended_where_github_asks(good: Made, tmp_path: Path) -> None:
    file = tmp_path / "summary"
    file.write_text("before\n")
    assert write_step_summary(good.report, {"GITHUB_STEP_SUMMARY": str(file)})
    assert file.read_text(encoding="utf-8") == "before\n" + render_markdown(good.report)
    assert not write_step_summary(good.report, {})


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("CONFORMANT", "conformant"),
        ("NON_CONFORMANT", "non-conformant"),
        ("PARTIAL", "partial"),
        ("INCONCLUSIVE", "inconclusive"),
    ],
)
def test_the_badge_says_verdict_and_profile(good: Made, verdict: str, words: str) -> None:
    report = seal({**good.report, "verdict": verdict})
    text = render_badge(report)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    assert root.get("aria-label") == f"M0 conformance, m0-process: {words}"
    assert "%" not in text


def test_expected_failures_are_told(good: Made) -> None:
    report = copy.deepcopy(good.report)
    entry = {
        "clause": "M0-W-1340/sigterm-idle-deadline",
        "fingerprint": "late",
        "reason": "drains first",
        "until": "2027-01-31",
    }
    report["expected_ledger"] = {
        "clean": False,
        "expected": [entry],
        "unexpected": [],
        "stale": [entry],
        "unmatched": [],
        "expired": [],
    }
    sealed = seal(report)
    sentence = "expected failures: 1 happened as expected, 1 expected but did not happen: remove the entry"
    assert sentence in view.summary_sentences(sealed)
    assert sentence in exports.terminal(sealed, good.folder)


def test_every_format_is_written_by_name(good: Made, tmp_path: Path) -> None:
    written = exports.write(good.report, good.folder, ["html", "junit", "md", "badge", "terminal"], tmp_path)
    assert [path.name for path in written] == ["report.html", "junit.xml", "summary.md", "badge.svg"]
    assert all(path.stat().st_size > 300 for path in written)
    with pytest.raises(ValueError, match="unknown report format 'pdf'; known: terminal, html"):
        exports.write(good.report, good.folder, ["html", "pdf"], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert exports.parse_formats("html, junit") == ["html", "junit"]
    with pytest.raises(ValueError, match="no report format"):
        exports.parse_formats(" , ")


def test_the_ladder_nests_and_says_what_is_lacking(good: Made) -> None:
    steps = view.ladder(good.report)
    assert [(step.name, step.state) for step in steps] == [
        ("m0-wire", "included"),
        ("m0-process", "judged"),
        ("m0", "beyond"),
    ]
    assert steps[2].lacks == "an NVIDIA device"
    assert steps[2].requirements == good.report["next_profile"]["requirements"]
    assert not steps[0].lacks
    active = [c for _, c in view.all_clauses(good.report) if c["disposition"] == "active"]
    assert sum(sum(step.clauses.values()) for step in steps) == sum(c["profile"] != "m1-preview" for c in active)


def test_what_gates_comes_first_and_the_worst_before_the_rest(bad: Made) -> None:
    found = [(problem.gating, problem.status, problem.clause["id"]) for problem in problems.attention(bad.report)]
    gating = [status for gates, status, _ in found if gates]
    assert gating == ["FAIL"] * 7 + ["ERROR", "INCONCLUSIVE", "BLOCKED", "WARN"]
    assert found[-1] == (False, "FAIL", "M0-W-1604/p99")


def test_reasons_for_what_was_not_tested_are_told(good: Made) -> None:
    report = copy.deepcopy(good.report)
    wire = [c for _, c in view.all_clauses(report) if c["profile"] == "m0-wire" and c["disposition"] == "active"]
    for clause in wire[:3]:
        clause["status"], clause["reason"] = "NOT_TESTED", "no check exercises it"
    for clause, reason in zip(wire[3:7], ("a lost race", "b", "c", "d"), strict=True):
        clause["status"], clause["reason"] = "NOT_TESTED", reason
    sentences = view.summary_sentences(report)
    assert (
        "not tested in m0-process: 3 clauses (no check exercises it), 1 clause (a lost race), 1 clause (b), "
        "2 for other reasons"
    ) in sentences


def test_the_same_fault_is_told_once_and_counted(bad: Made) -> None:
    report = copy.deepcopy(bad.report)
    clause = next(c for _, c in view.all_clauses(report) if c["id"] == "M0-W-1311/stream-closes")
    clause["findings"] *= 3
    clause["findings"].append({**clause["findings"][0], "key": "another"})
    found = [(p.times, p.finding and p.finding["key"]) for p in problems.attention(report) if p.clause is clause]
    assert found == [(3, "stalled-stream"), (1, "another")]
    out = io.StringIO()
    print_report(seal(report), out)
    assert out.getvalue().count("the stream stood still in the middle (3 times)") == 1


def test_what_is_blocked_is_not_told_as_failed(bad: Made) -> None:
    report = copy.deepcopy(bad.report)
    clause = next(c for _, c in view.all_clauses(report) if c["id"] == "M0-W-1311/stream-closes")
    clause["status"], clause["reason"] = "BLOCKED", "cannot be judged while M0-W-1310/event-line fails"
    assert [p.status for p in problems.attention(report) if p.clause is clause] == ["BLOCKED"]

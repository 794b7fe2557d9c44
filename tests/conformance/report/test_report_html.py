"""The page as text: self-contained, bounded, honest about what it cut."""

from __future__ import annotations

import base64
import copy
import hashlib
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.report.context import Limits
from m0_conformance.report.document import seal
from m0_conformance.report.evidence import folder_store
from m0_conformance.report.html import MAX_BYTES, render_html
from report_pages import find_browser
from report_streams import execute, recording, steady, words

if TYPE_CHECKING:
    from pathlib import Path

    from report_pages import Made


def test_every_requirement_and_clause_has_its_place(bad: Made) -> None:
    identifiers = re.findall(r'\bid="([^"]+)"', bad.html)
    assert len(identifiers) == len(set(identifiers))
    for requirement in bad.report["requirements"]:
        assert requirement["id"] in identifiers
        for clause in requirement["clauses"]:
            assert clause["id"] in identifiers
    for target in re.findall(r'href="#([^"=]+)"', bad.html):
        assert target in identifiers, target


def test_the_page_loads_nothing_and_allows_only_its_own_script_and_style(bad: Made) -> None:
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?(?:https?:)?//""", bad.html)
    assert not re.search(r"@import|url\(", bad.html)
    assert " style=" not in bad.html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', bad.html)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    for tag in ("script", "style"):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", bad.html, re.DOTALL)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy[1]


def test_a_good_report_holds_no_failure(good: Made) -> None:
    assert 'id="h-attention"' not in good.html
    assert 'class="finding' not in good.html
    assert "Conformant" in good.html


def test_missed_conditional_defects_are_named_and_caught_ones_counted(bad: Made) -> None:
    section = bad.html[bad.html.index('id="kill-matrix"') :]
    assert "8 of 9 caught, drawn by seed 7 from 4000; 8 of 9 ever drawn" in section
    assert "Missed: 1" in section
    assert "defect-04@turn=later" in section
    assert "defect-05@turn=later" not in section
    assert "Argued to be invisible: 1" in section
    assert "caught 83 of 84 seeded defects and 8 of 9 conditional ones" in bad.html


def test_a_report_without_recordings_or_kill_matrix_still_reads(bad: Made) -> None:
    report = seal(
        {**bad.report, "kill_matrix": None, "readings": [], "suite": {**bad.report["suite"], "selftest": None}}
    )
    page = render_html(report)
    assert "Kill matrix" not in page
    assert "unverified: no self-test result" in page
    assert "the recording is not embedded here: transcripts/" in page
    assert f"truncated: {len(report['recordings'])} recordings not embedded here" in page


def all_failing(report: dict[str, Any], shas: list[str]) -> dict[str, Any]:
    """Every clause fails five times, each time with a long stream and long texts."""
    worst = copy.deepcopy(report)
    for number, clause in enumerate(c for r in worst["requirements"] for c in r["clauses"]):
        clause["status"], clause["reason"] = "FAIL", "everything is wrong"
        clause["findings"] = [
            {
                "key": f"fault-{n}",
                "status": "FAIL",
                "message": "m" * 3_000,
                "expected": "e" * 3_000,
                "actual": "a" * 3_000,
                "at": {"exchange": "x1", "event": 1_000, "byte": 5, "t_ms": 2.0},
                "lines": ["l" * 300] * 11,
                "transcript": shas[(number + n) % len(shas)],
                "curl": "c" * 2_000,
                "replay": "r" * 200,
                "caused_by": None,
            }
            for n in range(5)
        ]
    for requirement in worst["requirements"]:
        requirement["status"] = "FAIL"
    worst["summary"]["by_status"] = {"FAIL": len(worst["requirements"])}
    return worst


def test_the_worst_run_stays_below_three_megabytes_and_says_what_it_cut(good: Made, tmp_path: Path) -> None:
    rng = random.Random(1)
    (tmp_path / "transcripts").mkdir()
    shas = []
    for n in range(4):
        item = recording(f"c{n}", [execute(words(2_048), steady(2_048, 0.01, rng)) for _ in range(2)])
        for number, exchange in enumerate(item.exchanges, 1):
            exchange.id = f"x{number}"
        (tmp_path / "transcripts" / f"{item.sha}.json").write_bytes(item.encode())
        shas.append(item.sha)
    report = seal(
        all_failing({**good.report, "recordings": {**good.report["recordings"], **dict.fromkeys(shas, "c")}}, shas)
    )
    page = render_html(report, folder_store(tmp_path))
    assert len(page.encode()) <= MAX_BYTES
    clauses = sum(len(requirement["clauses"]) for requirement in report["requirements"])
    assert page.count('<section class="finding') == clauses  # at least one each, the others counted
    assert page.count("truncated: 4 more findings of this clause in report.json") == clauses
    assert re.search(r"\[truncated: [\d,]+ more characters\]", page)
    assert "# truncated: this curl line is too long for this page, it stands in report.json" in page
    assert re.search(r"truncated: [\d,]+ events left out here", page)


def test_limits_given_by_the_caller_are_kept(bad: Made) -> None:
    page = render_html(bad.report, folder_store(bad.folder), limits=Limits(evidence=0, findings=400, timelines=2))
    inside = page[page.index('id="list"') : page.index('id="readings"')]
    assert inside.count('<figure class="tl">') <= 2
    assert page.count('<details class="rec"') == 1


def test_without_a_browser_ci_fails_and_others_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install -y chromium"):
        find_browser()
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no browser found"):
        find_browser()

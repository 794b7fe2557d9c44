from __future__ import annotations

import copy
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from m0_conformance.report.document import (
    InvalidReportError,
    TruncatedRunError,
    UnknownVersionError,
    UnreadableReportError,
    WrongDigestError,
    digest,
    problems,
    read_report,
    read_stream,
    schema,
    seal,
    write_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from report_pages import Made


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_a_written_report_reads_back_unchanged(good: Made) -> None:
    assert read_report(good.folder) == read_report(good.folder / "report.json") == good.report
    assert len(good.report["requirements"]) == 98


def test_the_digest_does_not_depend_on_key_order_or_layout(good: Made) -> None:
    turned = dict(reversed(good.report.items()))
    assert digest(turned) == digest(good.report) == good.report["digest"]
    assert digest({**good.report, "digest": "sha256:" + "0" * 64}) == good.report["digest"]


def test_lone_surrogates_of_a_worker_survive_the_round_trip(good: Made, tmp_path: Path) -> None:
    report = copy.deepcopy(good.report)
    report["target"]["identity"]["model"] = "\ud800\x00\u202e"
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path)["target"]["identity"]["model"] == "\ud800\x00\u202e"


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["requirements"][0].update(title="another title"),
        lambda report: report.update(verdict_line="CONFORMANT in m0"),
        lambda report: report["run"].update(seed=8),
    ],
)
def test_a_changed_report_is_refused(good: Made, tmp_path: Path, change: Callable[[Any], None]) -> None:
    report = copy.deepcopy(good.report)
    change(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(WrongDigestError, match=r"was changed after the run.*rejudge"):
        read_report(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_another_schema_version_is_refused_before_anything_else(good: Made, tmp_path: Path, version: object) -> None:
    (tmp_path / "report.json").write_text(json.dumps({**good.report, "schema_version": version, "new": 1}))
    with pytest.raises(UnknownVersionError, match=r"schema_version .*reads 1"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("verdict"), "verdict"),
        (lambda r: r.update(extra=1), "extra"),
        (lambda r: r["requirements"][0]["clauses"][0].update(status="GOOD"), "GOOD"),
        (lambda r: r["requirements"][0]["clauses"][0].update(status="FAIL", findings=[]), "findings"),
        (lambda r: r["requirements"].append(r["requirements"][0]), "appears twice"),
        (lambda r: r["requirements"][0].update(clauses=r["requirements"][1]["clauses"]), "stands under"),
        (lambda r: r["summary"]["by_status"].update(PASS=0), "by_status"),
        (lambda r: r["summary"]["by_disposition"].update(active=1), "by_disposition"),
        (lambda r: r.update(recordings={}), "not listed"),
        (lambda r: first_untested(r).update(reason=None), "reason"),
    ],
)
def test_an_invalid_report_is_neither_sealed_nor_read(
    good: Made, tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    report = small(good.report)
    assert not problems(report)
    change(report)
    assert any(words in problem for problem in problems(report))
    with pytest.raises(InvalidReportError, match="no valid report"):
        seal(report)
    report["digest"] = digest(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(InvalidReportError, match="no valid report"):
        read_report(tmp_path)


def small(report: dict[str, Any]) -> dict[str, Any]:
    """The same report with its first requirements only: the schema is checked in a tenth of the time."""
    cut = copy.deepcopy({**report, "requirements": report["requirements"][:8]})
    clauses = [clause for requirement in cut["requirements"] for clause in requirement["clauses"]]
    cut["summary"]["by_status"] = dict(Counter(requirement["status"] for requirement in cut["requirements"]))
    cut["summary"]["by_disposition"] = dict(Counter(clause["disposition"] for clause in clauses))
    return cut


def first_untested(report: dict[str, Any]) -> dict[str, Any]:
    clauses = (clause for requirement in report["requirements"] for clause in requirement["clauses"])
    return next(clause for clause in clauses if clause["status"] == "NOT_TESTED")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "not JSON"), ("{", "not JSON"), ("[]", "holds a list"), ('{"a": NaN}', "NaN"), ("[" * 100_000, "not JSON")],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UnreadableReportError, match=words):
        read_report(tmp_path)


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableReportError, match=r"holds no report\.json"):
        read_report(tmp_path)
    with pytest.raises(UnreadableReportError, match="No such file"):
        read_report(tmp_path / "report.json")


LINES = [
    {"kind": "header", "suite": "m0-conformance"},
    {"kind": "recording", "sha": "00"},
    {"kind": "finding", "clause": "M0-W-1311/one-terminal"},
    {"kind": "check", "check": "test_a"},
    {"kind": "footer", "recordings": 1, "findings": 1, "checks": 1},
]


def stream(path: Path, lines: list[dict[str, Any]], tail: str = "\n") -> Path:
    path.write_text(("\n".join(json.dumps(line) for line in lines) + tail) if lines else "")
    return path


def test_a_finished_run_is_read(tmp_path: Path) -> None:
    assert read_stream(stream(tmp_path / "run.ndjson", LINES)) == LINES


@pytest.mark.parametrize("count", range(len(LINES)))
def test_a_run_without_its_footer_is_refused(tmp_path: Path, count: int) -> None:
    path = stream(tmp_path / "run.ndjson", LINES[:count])
    with pytest.raises(TruncatedRunError, match=r"no (header|footer).*cut short"):
        read_stream(path)
    with pytest.raises(TruncatedRunError):
        read_report(tmp_path)


def test_a_run_cut_in_the_middle_of_a_line_is_refused(tmp_path: Path) -> None:
    path = stream(tmp_path / "run.ndjson", LINES[:3], tail='\n{"kind": "fin')
    with pytest.raises(TruncatedRunError, match="middle of line 4"):
        read_stream(path)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_run_that_lost_a_line_is_refused(tmp_path: Path, lost: int) -> None:
    path = stream(tmp_path / "run.ndjson", LINES[:lost] + LINES[lost + 1 :])
    with pytest.raises(TruncatedRunError, match="its footer counts 1"):
        read_stream(path)


def test_a_run_with_a_strange_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ndjson"
    path.write_text('{"kind":"header"}\n?\n{"kind":"footer"}\n')
    with pytest.raises(UnreadableReportError, match="line 2 is not JSON"):
        read_stream(path)
    path.write_text('{"kind":"header"}\n[]\n{"kind":"footer"}\n')
    with pytest.raises(UnreadableReportError, match="line 2 is no object"):
        read_stream(path)

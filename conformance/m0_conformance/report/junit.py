"""JUnit XML for CI systems: one test case a clause, in one suite a requirement.

JUnit knows passed, failure, error and skipped. FAIL is a failure; what keeps a MUST of the judged profile from being
decided (ERROR, INCONCLUSIVE, BLOCKED) is an error, so that it never shows green; NOT_TESTED and NA are skipped with the
reason; WARN and INFO pass and say so in system-out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from m0_conformance.recording.redact import redact
from m0_conformance.report.text import visible

if TYPE_CHECKING:
    from m0_conformance.report.document import Report
    from m0_conformance.report.view import Json

_OUTCOME = {
    "FAIL": "failure",
    "ERROR": "error",
    "INCONCLUSIVE": "error",
    "BLOCKED": "error",
    "NOT_TESTED": "skipped",
    "NA": "skipped",
}


def render_junit(report: Report) -> str:
    """The XML document as text; write it as UTF-8."""
    root = ET.Element(
        "testsuites", name=f"M0 conformance {report['profile']}", time=f"{report['run']['duration_s']:.3f}"
    )
    totals: Counter[str] = Counter()
    for requirement in report["requirements"]:
        counts = Counter(_OUTCOME.get(clause["status"], "passed") for clause in requirement["clauses"])
        totals += counts
        name = f"{requirement['id']} {clean(requirement['title'])}"
        took = sum(clause.get("seconds", 0.0) for clause in requirement["clauses"])
        suite = ET.SubElement(root, "testsuite", {"name": name, **_numbers(counts), "time": f"{took:.3f}"})
        for clause in requirement["clauses"]:
            _case(suite, requirement, clause)
    root.attrib.update(_numbers(totals))
    properties = ET.Element("properties")
    for name, value in {
        "verdict": report["verdict"],
        "verdict_line": report["verdict_line"],
        "profile": report["profile"],
        "digest": report["digest"],
        "suite": f"{report['suite']['name']} {report['suite']['version']}",
    }.items():
        ET.SubElement(properties, "property", name=name, value=clean(value))
    if len(root):
        root[0].insert(0, properties)
    ET.indent(root)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ET.tostring(root, encoding="unicode") + "\n"


def clean(text: str) -> str:
    """Redacted text without any character that XML 1.0 forbids."""
    return visible(redact(text))


def _numbers(counts: Counter[str]) -> dict[str, str]:
    return {
        "tests": str(sum(counts.values())),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]),
    }


def _case(suite: ET.Element, requirement: Json, clause: Json) -> None:
    case = ET.SubElement(suite, "testcase", classname=requirement["id"], name=clause["id"])
    case.set("time", f"{clause.get('seconds', 0.0):.3f}")
    outcome = _OUTCOME.get(clause["status"])
    findings = clause["findings"]
    message = clean(findings[0]["message"] if findings else clause["reason"] or clause["text"])
    detail = clean(
        "\n\n".join([f"{clause['level']} (spec line {requirement['line']}): {clause['text']}", *map(_detail, findings)])
    )
    if outcome == "skipped":
        ET.SubElement(case, "skipped", message=clean(clause["reason"] or clause["status"]))
    elif outcome:
        ET.SubElement(case, outcome, type=clause["status"], message=message).text = detail
    elif clause["status"] != "PASS" or findings:
        ET.SubElement(case, "system-out").text = f"{clause['status']}: {detail}"


def _detail(finding: Json) -> str:
    parts = [f"{finding['status']}: {finding['message']}"]
    parts += [f"{name:<9} {finding[name]}" for name in ("expected", "actual", "caused_by") if finding[name]]
    parts += finding["lines"]
    parts += [finding[name] for name in ("curl", "replay") if finding[name]]
    return "\n".join(parts)

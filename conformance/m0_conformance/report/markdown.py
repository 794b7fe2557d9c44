"""Markdown for pull requests and the step summary of a CI run."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.recording.redact import redact
from m0_conformance.report import problems, view
from m0_conformance.report.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.report.document import Report
    from m0_conformance.report.problems import Problem

_SHOWN = 40
"""Failures with details; a step summary is refused above 1 MiB."""
_SIGN = {"CONFORMANT": "✅", "NON_CONFORMANT": "❌", "PARTIAL": "🟡", "INCONCLUSIVE": "❔"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&])")


def render_markdown(report: Report) -> str:
    """Verdict, counts, failures in folds, what was not tested and why."""
    title = view.VERDICT_WORDS[report["verdict"]]
    out = [
        f"## {_SIGN[report['verdict']]} M0 {report['profile']}: {title}",
        "",
        escape(report["verdict_line"], 600),
        "",
    ]
    out += ["| Level | Passed | Of | Otherwise |", "|---|---:|---:|---|"]
    out += [f"| {t.level} | {t.passed} | {t.applicable} | {t.rest or 'nothing'} |" for t in view.tallies(report)]
    out += ["", *(f"- {escape(sentence, 600)}" for sentence in view.summary_sentences(report)[1:]), ""]
    found = problems.attention(report)
    if found:
        out += ["### What needs attention", ""]
        for problem in found[:_SHOWN]:
            out += _fold(report, problem)
        if len(found) > _SHOWN:
            out.append(f"And {len(found) - _SHOWN} more in report.html.")
        out.append("")
    followed = [reading for reading in report["readings"] if reading["observed"]]
    if followed:
        out += ["### Readings this worker follows", "", "| Point | Observed | Strict mode judges by |", "|---|---|---|"]
        out += [
            f"| {r['name']} | {escape(r['observed'], 120)} | {escape(r['default'] or 'any', 120)} |" for r in followed
        ]
        out.append("")
    suite = report["suite"]
    out.append(f"<sub>{escape(suite['name'])} {escape(suite['version'])} · digest `{report['digest'][:23]}…`</sub>")
    return "\n".join(out) + "\n"


def write_step_summary(report: Report, environment: Mapping[str, str] | None = None) -> bool:
    """Append the view to the file that GitHub names in GITHUB_STEP_SUMMARY; False where there is none."""
    target = (os.environ if environment is None else environment).get("GITHUB_STEP_SUMMARY")
    if not target:
        return False
    with Path(target).open("a", encoding="utf-8") as file:
        file.write(render_markdown(report))
    return True


def escape(text: str, limit: int = 200) -> str:
    """One line of text that Markdown and HTML leave as it is."""
    return (
        _SPECIAL.sub(r"\\\1", one_line(redact(text), limit))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def _html(text: str) -> str:
    """One line inside an HTML block, where Markdown's own escapes would show."""
    return html.escape(one_line(redact(text), 200))


def _fold(report: Report, problem: Problem) -> list[str]:
    clause, finding = problem.clause, problem.finding
    what = problems.headline(report, problem)
    out = [
        f"<details><summary><b>{problem.status}</b> {clause['id']} ({clause['level']}): {_html(what)}</summary>",
        "",
    ]
    out.append(f"Spec line {problem.requirement['line']}: {escape(clause['text'], 400)}")
    if finding:
        out += [
            f"- {name.replace('_', ' ')}: {escape(finding[name], 400)}"
            for name in ("expected", "actual", "caused_by")
            if finding[name]
        ]
        block = [*finding["lines"], *(finding[name] for name in ("curl", "replay") if finding[name])]
        if block:
            out += ["", *_fenced(block)]
    return [*out, "", "</details>"]


def _fenced(block: list[str]) -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    text = [visible(redact(line)) for line in block]
    longest = max((len(run) for line in text for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + "text", *text, fence]

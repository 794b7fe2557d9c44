"""Several reports side by side: workers across, requirements down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_conformance.recording.redact import redact
from m0_conformance.report.markdown import escape
from m0_conformance.report.text import one_line
from m0_conformance.report.view import STATUSES, VERDICT_WORDS, WORDS, target_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.report.document import Report

LETTERS = {
    "PASS": "P", "FAIL": "F", "WARN": "W", "NA": "-", "BLOCKED": "B", "NOT_TESTED": ".", "INCONCLUSIVE": "?",
    "ERROR": "E", "INFO": "i",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Matrix:
    """Statuses of each requirement in each report; None where a report does not know it."""

    names: list[str]
    verdicts: list[str]
    rows: list[tuple[str, str, list[str | None]]]
    """(id, title, statuses)"""


def build_matrix(reports: Sequence[tuple[str, Report]]) -> Matrix:
    """Line up reports.

    Args:
        reports: (name, report); an empty name is replaced by the target's model or address.
    """
    titles: dict[str, str] = {}
    for _, report in reports:
        for requirement in report["requirements"]:
            titles.setdefault(requirement["id"], requirement["title"])
    statuses = [{r["id"]: str(r["status"]) for r in report["requirements"]} for _, report in reports]
    return Matrix(
        names=[one_line(redact(name or target_name(report)), 60) for name, report in reports],
        verdicts=[f"{VERDICT_WORDS[report['verdict']]} in {report['profile']}" for _, report in reports],
        rows=[(name, title, [column.get(name) for column in statuses]) for name, title in titles.items()],
    )


def render_matrix(matrix: Matrix) -> str:
    """Plain text: one letter a cell, the legend below."""
    out = [
        f"{index}  {name}: {verdict}"
        for index, (name, verdict) in enumerate(zip(matrix.names, matrix.verdicts, strict=True), 1)
    ]
    width = max(len(identifier) for identifier, _, _ in matrix.rows)
    out += ["", " " * width + "  " + " ".join(str(n % 10) for n in range(1, len(matrix.names) + 1))]
    for identifier, title, cells in matrix.rows:
        letters = " ".join(LETTERS[cell] if cell else " " for cell in cells)
        out.append(f"{identifier:<{width}}  {letters}  {one_line(title, 60)}")
    out += ["", ", ".join(f"{LETTERS[status]} {WORDS[status]}" for status in STATUSES)]
    return "\n".join(out) + "\n"


def render_matrix_markdown(matrix: Matrix) -> str:
    """A table with the status in words."""
    out = ["| Requirement | " + " | ".join(escape(name) for name in matrix.names) + " |"]
    out.append("|---|" + "---|" * len(matrix.names))
    out.append("| **Verdict** | " + " | ".join(f"**{escape(verdict)}**" for verdict in matrix.verdicts) + " |")
    for identifier, title, cells in matrix.rows:
        out.append(
            f"| {identifier} {escape(title)} | " + " | ".join(WORDS[cell] if cell else "" for cell in cells) + " |"
        )
    return "\n".join(out) + "\n"

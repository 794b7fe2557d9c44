"""All views of a report by name: what the end of a run and `m0-conformance report`, `diff` and `matrix` call."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from m0_conformance.recording.belongings import claim
from m0_conformance.report.badge import render_badge
from m0_conformance.report.diff import compare, render_diff
from m0_conformance.report.evidence import folder_store
from m0_conformance.report.html import render_html
from m0_conformance.report.junit import render_junit
from m0_conformance.report.markdown import render_markdown, write_step_summary
from m0_conformance.report.matrix import build_matrix, render_matrix, render_matrix_markdown
from m0_conformance.report.terminal import print_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from m0_conformance.report.document import Report

_FILES: Mapping[str, tuple[str, Callable[[Report, Path], str]]] = {
    "html": ("report.html", lambda report, folder: render_html(report, folder_store(folder))),
    "junit": ("junit.xml", lambda report, _: render_junit(report)),
    "md": ("summary.md", lambda report, _: render_markdown(report)),
    "badge": ("badge.svg", lambda report, _: render_badge(report)),
}
FORMATS = ("terminal", *_FILES)
"""Names that `--format` knows."""


def parse_formats(text: str) -> list[str]:
    """'html,junit' as a list. Raises ValueError that names the unknown one and all known ones."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    check_formats(names)
    return names


def check_formats(names: Sequence[str]) -> None:
    """Raises ValueError that names the unknown format, or says that none was given."""
    known = ", ".join(FORMATS)
    if not names:
        raise ValueError(f"no report format given; known: {known}")
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"unknown report format {name!r}; known: {known}")


def write(report: Report, folder: Path, names: Iterable[str], output: Path | None = None) -> list[Path]:
    """Write the views that are files.

    Args:
        report: a checked report.
        folder: where its recordings lie (`transcripts/`).
        names: out of `FORMATS`; "terminal" is no file and is passed over.
        output: where to write; `folder` by default.

    Returns:
        Paths written, in the order of `names`.

    Raises:
        ValueError: an unknown name, or a file that the suite did not write is in the way; nothing is written then.
    """
    listed = list(names)
    check_formats(listed or ["terminal"])
    target = output or folder
    target.mkdir(parents=True, exist_ok=True)
    claim(target, [_FILES[name][0] for name in listed if name in _FILES])
    written = []
    for name in listed:
        if name in _FILES:
            file, view = _FILES[name]
            path = target / file
            path.write_text(view(report, folder), encoding="utf-8", newline="\n")
            written.append(path)
    return written


def write_all(report: Report, folder: Path) -> list[Path]:
    """Every view that is a file, beside the report; in a CI run also its step summary."""
    written = write(report, folder, _FILES)
    write_step_summary(report)
    return written


def terminal(report: Report, folder: Path, *, colour: bool = False) -> str:
    """The console's view as text, with the folder in which the other views lie."""
    out = io.StringIO()
    print_report(report, out, colour=colour)
    out.write(f"\nreport: {folder / 'report.html'}\n")
    return out.getvalue()


def diff(before: Report, after: Report) -> tuple[str, bool]:
    """What changed as text, and whether the worker got worse anywhere."""
    difference = compare(before, after)
    return render_diff(difference), bool(difference.regressions)


def matrix(reports: Sequence[tuple[str, Report]], *, markdown: bool = False) -> str:
    """Several named reports side by side, as plain text or Markdown."""
    lined_up = build_matrix(reports)
    return render_matrix_markdown(lined_up) if markdown else render_matrix(lined_up)

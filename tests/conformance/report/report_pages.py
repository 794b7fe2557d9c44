"""Reports on disk with their pages, and the browser to read them with."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import report_sample
from m0_conformance.report.document import Report, write_report
from m0_conformance.report.evidence import folder_store
from m0_conformance.report.html import render_html

if TYPE_CHECKING:
    from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """Path of a Chromium; without one CI fails and everybody else skips."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    sentence = f"no browser found (looked for {', '.join(BROWSERS)}); install it: apt-get install -y chromium"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"the HTML report must be tested in a real browser, but {sentence}", pytrace=False)
    pytest.skip(sentence)


class Made:
    """A report on disk, with its page."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.report: Report = write_report(report_sample.build(kind, folder), folder / "report.json")
        self.page = folder / "report.html"
        self.html = render_html(self.report, folder_store(folder))
        self.page.write_text(self.html, encoding="utf-8")

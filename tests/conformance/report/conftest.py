from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import report_sample

from conformance.report.document import Report, write_report
from conformance.report.evidence import folder_store
from conformance.report.html import render_html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

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


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made("bad", tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made("good", tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - costs 0.3 s that most tests need not pay

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path)
        yield running
        running.close()

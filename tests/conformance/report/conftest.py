from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from report_pages import Made, find_browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made("bad", tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made("good", tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module only: while it lives, its event loop runs in this thread and asynchronous tests could not."""
    path = find_browser()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - costs 0.3 s that most tests need not pay

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path)
        yield running
        running.close()

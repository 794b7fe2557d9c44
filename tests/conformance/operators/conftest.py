"""The corpus is worked through once; what came of it stands in pytest's summary."""

from __future__ import annotations

import operator_results
import pytest

LIMIT = 6
"""Sites of an operator in one recording: some 2,900 mutants in all."""
_LINES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> operator_results.Results:
    found = operator_results.run_all(LIMIT)
    request.config.stash.setdefault(_LINES, []).append(found.line)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_LINES, []):
        terminalreporter.write_line(line)

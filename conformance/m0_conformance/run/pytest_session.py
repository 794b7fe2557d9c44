"""One pytest session in this process, with this suite's plugin and nothing else: runs the checks, or collects them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from m0_conformance.run.interrupt import handled
from m0_conformance.run.session import EXIT_OPEN, Run, print_crashes

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_conformance.run.options import RunOptions
    from m0_conformance.spec.check_sets import Check

CHECKS = Path(__file__).parent.parent / "areas"


def _alone() -> None:
    """Let nothing of the user's own pytest in: no installed plugin, no options or plugins named by the environment."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)


def run_checks(session: Run, checks: Path = CHECKS) -> int:
    """Run pytest for one run, whose options the command line has parsed."""
    try:
        with handled(session.ending, session.limits.exceeded):
            return run_pytest(checks, _Handover(session))
    except KeyboardInterrupt:
        return session.end(interrupted=True) if session.outcome is None and session.collected else EXIT_OPEN


def run_pytest(checks: Path, *plugins: object) -> int:
    """Run pytest with the suite's plugin and nothing else in this process."""
    _alone()
    words = [
        *("-c", str(CHECKS / "pytest.ini"), "--rootdir", str(checks)),
        *("-p", "pytest_asyncio.plugin", "-p", "m0_conformance.run.plugin"),
        *("-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:doctest", "-p", "no:junitxml", "-p", "no:pastebin"),
        # A warning at the very end of the process must not cost the report.
        *("-p", "no:unraisableexception", "-p", "no:threadexception"),
        *("--assert=plain", "--capture=no", "--import-mode=importlib"),
        str(checks),
    ]
    return int(pytest.main(words, plugins=plugins))


def collected(work: Callable[[Callable[[RunOptions], None]], None]) -> None:
    """Collect all checks once and call `work` with a function that performs a run: in a fork of this process.

    Raises what `work` raises, and ValueError when the checks cannot be collected.
    """
    session = _Collected(work)
    run_pytest(CHECKS, _Handover(None), session)
    if session.raised is not None:
        raise session.raised
    if not session.begun:
        print_crashes()
        raise ValueError("the checks cannot be collected; see above")


class _Collected:
    """Hands a session over before its first check."""

    def __init__(self, work: Callable[[Callable[[RunOptions], None]], None]) -> None:
        self._work = work
        self.begun = False
        self.raised: BaseException | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """The work instead of pytest's loop; a run of it comes here again and goes on to that loop."""
        if self.begun:
            return None
        self.begun = True
        from m0_conformance.run.plugin import run_collected  # noqa: PLC0415 - pytest must be first to import it

        def perform(options: RunOptions) -> None:
            run = Run.begin(options)
            with handled(run.ending, run.limits.exceeded):
                run_collected(session, run)
            print_crashes()

        try:
            self._work(perform)
        except BaseException as error:  # noqa: BLE001 - raised again when pytest is out of the way
            self.raised = error
        return True


class _Handover:
    """Gives the open run to the plugin, or none."""

    def __init__(self, session: Run | None) -> None:
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Before the plugin's own pytest_configure."""
        config.conformance_run = self._session  # type: ignore[attr-defined]  # ours


class _Collector:
    """Collects checks without running any."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """The marks must be known, or strict collection fails."""
        for name in ("requirement", "launch", "needs", "alone"):
            config.addinivalue_line("markers", name)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """One check."""
        self.items.append(item)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check module that cannot be imported."""
        if report.failed:
            Run.crash(str(report.longrepr))


def collect_checks() -> dict[str, Check]:
    """Every check there is. Raises ValueError when a module cannot be imported."""
    _alone()
    collector = _Collector()
    words = [
        *("-c", str(CHECKS / "pytest.ini"), "--rootdir", str(CHECKS), "-p", "pytest_asyncio.plugin"),
        *("-p", "no:terminal", "-p", "no:cacheprovider", "--collect-only", "--import-mode=importlib"),
        str(CHECKS),
    ]
    pytest.main(words, plugins=[collector])
    if Run.crashes:
        print_crashes()
        raise ValueError("the checks cannot be collected; see above")
    from m0_conformance.run.plugin import as_check  # noqa: PLC0415 - pytest must be first to import it, to rewrite its asserts

    found = [as_check(item) for item in collector.items]
    return {check.name: check for check in found}

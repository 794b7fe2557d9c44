"""The pytest plugin that turns check functions into recordings and findings; loaded only by name.

    pytest -p m0_conformance.run.plugin conformance/m0_conformance/areas --worker-url http://host:port

It refuses what would make a verdict dishonest (an unknown clause, a check without a clause, skip and xfail), orders
the checks so that those with the same launch configuration share one worker process, hands each a `situation`, and
after each runs the judges and stores recording and findings. `conformance run` is this plugin with pytest's own output
switched off.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from m0_conformance.judging.finding import Finding, Status, worst
from m0_conformance.judging.judge import load_all
from m0_conformance.run.canary import Canary
from m0_conformance.run.doctor import Diagnosis, examine
from m0_conformance.run.harness import Harness
from m0_conformance.run.interrupt import asked, interruptible
from m0_conformance.run.marks import DEFAULT_LAUNCH, LaunchKey
from m0_conformance.run.options import RunOptions, add_options
from m0_conformance.run.plan import HEAVY, tokens_of
from m0_conformance.run.session import Run
from m0_conformance.run.situation import Situation
from m0_conformance.spec.check_sets import Check
from m0_conformance.spec.registry import load_registry
from m0_conformance.targets.target import Blocked, HarnessError, NotExercised, OutOfReach, Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable
    from pathlib import Path

    from m0_conformance.recording.transcript import Outcome

_STATE: pytest.StashKey[State] = pytest.StashKey()
_RAISED: pytest.StashKey[BaseException] = pytest.StashKey()
_FORBIDDEN = ("skip", "skipif", "xfail")
AHEAD = 2
"""Workers started before their group's turn comes: hides start-up behind the running checks."""


class State:
    """What the plugin knows during one session."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.harness: Harness | None = None
        self.diagnosis: Diagnosis | None = None
        self.canary: Canary | None = None
        self.order: list[LaunchKey] = []
        self.last_use: dict[LaunchKey, str] = {}
        self.current: LaunchKey | None = None
        self.stopped = False

    @property
    def unusable(self) -> bool:
        """The doctor gave the target up: no check can say anything."""
        return self.diagnosis is not None and not self.diagnosis.usable


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `conformance run`, but without the ones pytest owns."""
    add_options(parser.getgroup("conformance", "judge an M0 worker").addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks and open the run."""
    for text in (
        "requirement(*clauses): clauses a check exercises",
        "launch(key): launch configuration of its worker",
        "needs(*what): command, cuda, destructive, real-model",
        "alone: a worker process of its own",
    ):
        config.addinivalue_line("markers", text)
    load_all()
    if not hasattr(config, "conformance_run"):
        config.conformance_run = Run.begin(RunOptions.of(config.option))  # type: ignore[attr-defined]  # ours
    run: Run | None = getattr(config, "conformance_run", None)
    if run is not None:
        config.stash[_STATE] = State(run)


# ---- collection ---------------------------------------------------------------------------------------------------


def clauses_of(item: pytest.Item) -> tuple[str, ...]:
    """Clauses named by an item's marks, without repetition."""
    return tuple(dict.fromkeys(clause for mark in item.iter_markers("requirement") for clause in mark.args))


def key_of(item: pytest.Item) -> LaunchKey | None:
    """The launch configuration an item asks for; None when any worker will do."""
    mark = item.get_closest_marker("launch")
    return None if mark is None else mark.args[0]


def needs_of(item: pytest.Item) -> set[str]:
    """What an item cannot do without."""
    return {need for mark in item.iter_markers("needs") for need in mark.args}


def complaints(items: Iterable[pytest.Item]) -> list[str]:
    """What makes a set of checks unacceptable, one sentence each."""
    known = load_registry().clauses
    found: list[str] = []
    for item in items:
        clauses = clauses_of(item)
        if not clauses:
            found.append(f"{item.nodeid}: a check without a clause; name one with @requirement(…)")
        found += [f"{item.nodeid}: unknown clause {clause!r}" for clause in clauses if clause not in known]
        found += [
            f"{item.nodeid}: {name} is forbidden in checks: a check always ends in findings"
            for name in _FORBIDDEN
            if item.get_closest_marker(name) is not None
        ]
    return found


def forbidden_calls(path: Path) -> list[str]:
    """Calls of pytest.skip, pytest.xfail, pytest.importorskip in a check module."""
    tree = ast.parse(path.read_text("utf-8"), str(path))
    names = {"skip", "xfail", "importorskip"}
    return [
        f"{path.name}:{node.lineno}: pytest.{node.attr} is forbidden in checks; raise NotExercised with a reason"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", "") == "pytest"
    ]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse dishonest checks, choose among the others; a session that only collects has no run to choose for."""
    found = complaints(items)
    for path in sorted({item.path for item in items}):
        found += forbidden_calls(path)
    if found:
        raise pytest.UsageError("\n".join(found))
    if _STATE in config.stash:
        choose(config, items)


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the deselected, order the rest by launch configuration."""
    state = config.stash[_STATE]
    if state.run.options.real_model is None:
        items[:] = [item for item in items if "real-model" not in needs_of(item)]
    state.run.collected = {check_name(item): clauses_of(item) for item in items}
    kept = [item for item in items if state.run.wanted(check_name(item), clauses_of(item))]
    if state.run.options.fast:  # one worker, the one that the doctor looked at
        kept = [item for item in kept if key_of(item) is None and "command" not in needs_of(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    groups: dict[LaunchKey, int] = {DEFAULT_LAUNCH: 0}
    for item in kept:
        groups.setdefault(key_of(item) or DEFAULT_LAUNCH, len(groups))

    def rank(item: pytest.Item) -> tuple[bool, bool, bool, int, int]:
        alone = item.get_closest_marker("alone") is not None
        tokens = tokens_of(check_name(item))
        group = groups[key_of(item) or DEFAULT_LAUNCH]
        return ("destructive" in needs_of(item), alone, tokens >= HEAVY, group, tokens)

    kept.sort(key=rank)  # stable: of equal checks of a group the order of the files
    items[:] = kept
    for item in kept:
        key = key_of(item) or DEFAULT_LAUNCH
        if item.get_closest_marker("alone") is None:
            if key not in state.order:
                state.order.append(key)
            state.last_use[key] = item.nodeid
    state.run.progress.total = state.run.selected = len(kept)


def run_collected(session: pytest.Session, run: Run) -> None:
    """Run what a session has collected for one run, up to its report; for a process that ends with it."""
    session.config.stash[_STATE] = State(run)
    choose(session.config, session.items)
    with contextlib.suppress(session.Interrupted, KeyboardInterrupt):
        session.config.hook.pytest_runtestloop(session=session)
    run.end(interrupted=asked())
    run.store.close()


def as_check(item: pytest.Item) -> Check:
    """An item's marks as a value."""
    return Check(
        name=check_name(item),
        clauses=clauses_of(item),
        launches=key_of(item) is not None,
        alone=item.get_closest_marker("alone") is not None,
        needs=frozenset(needs_of(item)),
        place=f"{item.path}:{(item.location[1] or 0) + 1}",
    )


def check_name(item: pytest.Item) -> str:
    """Area, function and parameter: streaming::test_ordinary_streams, refusals::test_bodies[short]."""
    return f"{item.path.parent.name}::{item.name}"


# ---- running ------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """The run's harness: target, doctor, and everything brought down at the end."""
    state = request.config.stash[_STATE]
    run = state.run
    harness = Harness(run.options, run.store, command=run.command, address=run.address)
    harness.calibration.hurry = run.plan.hurry
    state.harness, state.canary = harness, Canary(harness)
    run.harness = harness
    try:
        with contextlib.suppress(IndexError):
            harness.prestart([DEFAULT_LAUNCH, *state.order[1 : 1 + AHEAD]])
        with interruptible():
            state.diagnosis = await examine(harness, DEFAULT_LAUNCH)
        run.show_diagnosis(state.diagnosis)
        yield harness
    finally:
        await harness.close()


@pytest_asyncio.fixture(loop_scope="session")
async def situation(request: pytest.FixtureRequest, _harness: Harness) -> AsyncIterator[Situation]:
    """The check's driver; after the check the recording is stored and judged."""
    item: pytest.Item = request.node
    state = item.config.stash[_STATE]
    check, clauses = check_name(item), clauses_of(item)
    begin = time.monotonic()
    if state.unusable:
        raise CheckSetAside
    outcome, reason = _obstacle(item, state)
    if outcome is None and not state.run.plan.fits(check, _harness.calibration):
        outcome, reason = "not-exercised", state.run.plan.reason(check, _harness.calibration)
    alone = item.get_closest_marker("alone") is not None
    key = key_of(item) or DEFAULT_LAUNCH
    target = Target(("", 0))
    if outcome is None:
        try:
            with interruptible():
                target = await _target(state, _harness, key, alone=alone)
        except OutOfReach as error:
            outcome, reason = "out-of-reach", str(error)
        except Blocked as error:
            outcome, reason = "blocked", str(error)
        except HarnessError as error:
            outcome, reason = "harness-error", str(error)
        except Exception as error:  # noqa: BLE001 - whatever else goes wrong here is the suite's fault, and is reported
            outcome, reason = "harness-error", f"{type(error).__name__}: {error}"
    if outcome is not None:
        findings = _harness.set_aside(check, clauses, outcome, reason)
        _report(state, check, clauses, findings, begin)
        raise CheckSetAside(reason)
    driver = Situation(_harness, check, clauses, target)
    yield driver
    try:
        recording = await driver.finish()
        recording.outcome, recording.note = _outcome(item.stash.get(_RAISED, None))
        findings = _harness.keep(recording)
    except Exception as error:  # noqa: BLE001 - a recording that cannot be kept must not vanish silently
        words = f"the recording could not be kept: {type(error).__name__}: {error}"
        findings = _harness.set_aside(check, clauses, "harness-error", words)
    if alone:
        _harness.stop_later(target)
    elif state.last_use.get(key) == item.nodeid and key != DEFAULT_LAUNCH:
        _harness.release(key)
    _report(state, check, clauses, findings, begin)


class CheckSetAside(Exception):  # noqa: N818 - control flow: the check could not run, and that is already recorded
    """The check was set aside."""


def _obstacle(item: pytest.Item, state: State) -> tuple[Outcome | None, str]:
    """Why a check cannot run in this situation, or (None, "")."""
    run, needs = state.run, needs_of(item)
    if run.command is None and (key_of(item) is not None or "command" in needs):
        return "out-of-reach", "needs --worker-command"
    harmful = "destructive" in needs or item.get_closest_marker("alone") is not None
    if run.command is None and harmful and not run.options.allow_destructive:
        return "out-of-reach", "may end the worker: needs --worker-command or --allow-destructive"
    if "cuda" in needs and state.harness is not None and state.harness.device != "cuda":
        return "out-of-reach", "needs an NVIDIA device"
    return None, ""


async def _target(state: State, harness: Harness, key: LaunchKey, *, alone: bool) -> Target:
    if alone:
        return await harness.own_target(key)
    if state.current is not None and state.current != key and state.canary is not None:
        with contextlib.suppress(Blocked, OutOfReach):  # a model without the prompt of the canary
            await _run_canary(state, harness, state.current)
    state.current = key
    target = await harness.target_for(key)
    position = state.order.index(key) if key in state.order else 0
    harness.prestart(state.order[position + 1 : position + 1 + AHEAD])
    return target


async def _run_canary(state: State, harness: Harness, key: LaunchKey) -> None:
    """The canary, on the worker of the group that has just been left, when that worker still runs."""
    target = harness.running_target(key)
    if target is not None and state.canary is not None:
        sentence = await state.canary.compare(target, key.name)
        if sentence is not None:
            state.run.progress.say(sentence)


def _outcome(raised: BaseException | None) -> tuple[Outcome, str]:
    if raised is None:
        return "completed", ""
    if isinstance(raised, asyncio.CancelledError) and asked():
        return "not-exercised", "the run was interrupted"
    if isinstance(raised, OutOfReach):
        return "out-of-reach", str(raised)
    if isinstance(raised, NotExercised):
        return "not-exercised", str(raised)
    if isinstance(raised, Blocked):
        return "blocked", str(raised)
    if isinstance(raised, TimeoutError):
        return "harness-error", "the check itself took too long"
    return "harness-error", f"{type(raised).__name__}: {raised}"


def _report(state: State, check: str, clauses: tuple[str, ...], findings: list[Finding], begin: float) -> None:
    own = [finding for finding in findings if finding.clause in clauses]
    broken = [finding for finding in findings if finding.status is Status.FAIL]
    status = worst([finding.status for finding in (*own, *broken)])
    state.run.check_done(check, status, time.monotonic() - begin, broken)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember what the check raised; a check set aside counts as run."""
    report = yield
    if call.when == "call" and call.excinfo is not None:
        item.stash[_RAISED] = call.excinfo.value
    if call.excinfo is not None and isinstance(call.excinfo.value, (CheckSetAside, NotExercised, Blocked)):
        # "skipped" keeps pytest from running the body; the verdict rests on what was recorded.
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, str(call.excinfo.value))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """With a target that the doctor gave up, no check runs: its one sentence is the reason for all of them."""
    return True if item.config.stash[_STATE].unusable else None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop after the first failed check when asked to."""
    state = item.config.stash[_STATE]
    if state.run.options.fail_fast and state.run.failed:
        item.session.shouldstop = "--fail-fast"
    if asked():
        item.session.shouldstop = "interrupted"


def pytest_internalerror(excrepr: Any) -> None:
    """A crash of the suite itself; pytest's own reporter may be off."""
    Run.crash(str(excrepr))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A check module that cannot be imported."""
    if report.failed:
        Run.crash(str(report.longrepr))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Roll up, write the report, and let the verdict set the exit code."""
    state = session.config.stash.get(_STATE, None)
    if state is None or exitstatus in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR}:
        return
    if session.config.option.collectonly:
        return
    if state.run.collected and not state.run.selected:
        session.exitstatus = 2
        return
    session.exitstatus = state.run.end(interrupted=asked() or exitstatus == pytest.ExitCode.INTERRUPTED)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the store whatever happened; without a footer the run counts as truncated."""
    state = config.stash.get(_STATE, None)
    if state is not None:
        state.run.store.close()

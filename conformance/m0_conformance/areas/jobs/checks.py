"""Checks of jobs that meet: one at a time, the second, the same job_id, clients that leave, any history."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from m0_conformance.areas.jobs.judge import overlap
from m0_conformance.judging.job_model import CONTROL
from m0_conformance.recording.transcript import Recording
from m0_conformance.run import scripts
from m0_conformance.run.situation import Situation, launch, repeated, requirement

MEETING = 300
"""Tokens of a job that another one is to meet."""
ATTEMPTS = (MEETING, MEETING, MEETING, 2 * MEETING, 4 * MEETING, 6 * MEETING)
"""Tokens of the first job, one attempt after the other to let two meet: a fast worker on a busy machine may be ready
with the first before the second is sent."""
RETRIES = 40
LASTS_S = 6.0
"""A slow worker's jobs meet although they are shorter."""


def lengths(situation: Situation) -> tuple[int, ...]:
    """Tokens of the first job, one attempt after the other."""
    enough = max(30, situation.pace.tokens_in(LASTS_S))
    if situation.pace.together:  # only its time shows that it runs, so it takes a while
        return (min(2048, enough),) * 3
    return ATTEMPTS if enough >= MEETING else (enough,) * 3


@requirement("M0-W-1301/no-interleave", "M0-W-1301/second-answered", "M0-W-1301/solo-equal")
async def test_two_jobs(situation: Situation) -> None:
    """A second job while the first runs, against each alone."""
    await two_jobs(situation, situation.prompt(), situation.prompt("utf8"))


@requirement("M0-W-1301/solo-equal")
@launch("memory")
async def test_two_jobs_with_memory(situation: Situation) -> None:
    """The same on the probe that says what its cache holds."""
    await two_jobs(situation, "a" * 40, "b" * 40)


async def two_jobs(situation: Situation, first: str, second: str) -> None:
    """`first` twice alone, `second` twice alone, then overlapping."""
    meeting = lengths(situation)
    for _ in range(2):
        alone = await situation.execute("first alone", prompt=first, max_tokens=meeting[0], temperature=0.0)
        await situation.execute("second alone", prompt=second, max_tokens=30, temperature=0.0)
    for length in meeting:
        running = situation.start("running", prompt=first, max_tokens=length, temperature=0.0)
        await situation.under_way(running, 3, alone if length == meeting[0] else None)
        waiting = situation.start("second", prompt=second, max_tokens=30, temperature=0.0)
        stream = await running.done()
        if overlap(stream, (await waiting.done()).exchange):
            break


@requirement("M0-W-1301/duplicate-active")
async def test_a_job_id_that_runs_already(situation: Situation) -> None:
    """The same job_id again, while it runs."""
    meeting = lengths(situation)
    for _ in range(2):
        alone = await situation.execute("twin alone", max_tokens=meeting[0], temperature=0.0)
    for length in meeting:
        running = situation.start("running twin", max_tokens=length, temperature=0.0)
        await situation.under_way(running, 3, alone if length == meeting[0] else None)
        twin = situation.start("twin", job_id=running.job_id, prompt=situation.prompt("eos"), max_tokens=2)
        stream = await running.done()
        if overlap(stream, (await twin.done()).exchange):
            break


@repeated(without=["company"])
@requirement("M0-W-1301/after-disconnect")
async def test_a_client_that_leaves(situation: Situation) -> None:
    """Hanging up politely and with a reset; a job after each."""
    for _ in range(2):
        await situation.execute("undisturbed", max_tokens=20, temperature=0.0)
    for reset in (False, True):
        length = max(100, min(1000, situation.pace.tokens_in(20.0)))
        live = situation.start("abandoned", max_tokens=length, temperature=0.0)
        await situation.under_way(live, 3)
        await live.hang_up(reset=reset)
        for _ in range(RETRIES):  # a worker may be busy for as long as it has not noticed
            if (await situation.execute("next", max_tokens=20, temperature=0.0)).exchange.status != 503:
                break
            await asyncio.sleep(0.5)


LONG = 0
"""Stands for a job that takes LONG_S, so that something can happen to it."""
LONG_S = 0.2
BUDGET_S = 4.0
"""For making up histories; a fault that is found gets as much again for shrinking."""
STEPS = 10
LENGTHS = (1, 8, LONG)
OPEN_AT_ONCE = 3

TOUR: list[scripts.Step] = [
    {"do": "execute", "job": "a", "max_tokens": LONG},
    {"do": "tokens", "job": "a", "count": 2},
    {"do": "cancel", "job": "nobody"},
    {"do": "execute", "job": "b", "max_tokens": 8},
    {"do": "cancel", "job": "a"},
    {"do": "cancel", "job": "a"},
    {"do": "health"},
    {"do": "finish", "job": "b"},
    {"do": "cancel", "job": "b"},
    {"do": "execute", "job": "c", "max_tokens": LONG},
    {"do": "tokens", "job": "c", "count": 1},
    {"do": "leave", "job": "c", "reset": True},
    {"do": "execute", "job": "d", "max_tokens": 8},
]
"""One history that holds every step, so that each run has at least this evidence."""


class Deviation(Exception):  # noqa: N818 - hypothesis shrinks towards the smallest history that raises it
    """A history in which a MUST is broken."""


class History:
    """One history in the making, seen from the machine's thread."""

    def __init__(self, situation: Situation, loop: asyncio.AbstractEventLoop, number: int, long: int) -> None:
        self.long = long
        self._situation = situation
        self._loop = loop
        self._begin = len(situation.recording.exchanges)
        self._performer = scripts.Performer(situation, f"history {number}")
        self.steps: list[scripts.Step] = []

    def do(self, **step: Any) -> None:
        """One step, waited for."""
        if step.get("max_tokens") == LONG:
            step["max_tokens"] = self.long
        self.steps.append(step)
        asyncio.run_coroutine_threadsafe(self._performer.do(step), self._loop).result()

    def judge(self) -> list[Any]:
        """End it; what breaks a MUST in it."""
        asyncio.run_coroutine_threadsafe(self._performer.end(), self._loop).result()
        whole = self._situation.recording
        controls = [exchange for exchange in whole.exchanges[:2] if exchange.label == CONTROL]
        exchanges = [*controls, *whole.exchanges[self._begin :]]
        return scripts.failures(Recording(whole.check, (), exchanges, facts=whole.facts, settings=whole.settings))


class Search:
    """What the machine's examples share: the clock, and the smallest failing history."""

    def __init__(self, situation: Situation, loop: asyncio.AbstractEventLoop) -> None:
        self.situation, self.loop = situation, loop
        control = situation.recording.labelled(CONTROL)[-1]
        pace = scripts.CONTROL_TOKENS / max(control.closed_at or 0.0, 1e-3)
        self.long = min(max(int(LONG_S * pace), scripts.CONTROL_TOKENS), 1024)
        self.until = time.monotonic() + BUDGET_S / situation.pace.hurry * situation.scale
        self.histories = 0
        self.shrinking = False
        self.smallest: tuple[list[scripts.Step], list[Any]] | None = None

    def begin(self) -> History:
        """A new history."""
        self.histories += 1
        return History(self.situation, self.loop, self.histories, self.long)

    @property
    def over(self) -> bool:
        """No time is left: histories stay as they are."""
        return time.monotonic() > self.until

    def end(self, history: History) -> None:
        """Judge a history. Raises Deviation."""
        found = history.judge()
        if not found:
            return
        if not self.shrinking:
            self.shrinking = True
            self.until = time.monotonic() + BUDGET_S * self.situation.scale
        if self.smallest is None or len(history.steps) < len(self.smallest[0]):
            self.smallest = history.steps, found
        raise Deviation(f"{found[0].clause}: {found[0].message}")


def explore(search: Search, examples: int, seed: int) -> None:
    """Let hypothesis make up histories; returns when it has found nothing, the smallest fault, or the time is over."""
    from hypothesis import HealthCheck, Phase, Verbosity, settings  # noqa: PLC0415 - only this check pays for it
    from hypothesis import seed as seeded  # noqa: PLC0415 - the same
    from hypothesis import strategies as st  # noqa: PLC0415 - the same
    from hypothesis.errors import HypothesisException  # noqa: PLC0415 - the same
    from hypothesis.stateful import (  # noqa: PLC0415 - the same
        Bundle,
        RuleBasedStateMachine,
        precondition,
        rule,
        run_state_machine_as_test,
    )

    class Worker(RuleBasedStateMachine):
        """Clients of one worker."""

        jobs = Bundle("jobs")

        def __init__(self) -> None:
            super().__init__()
            self.history = search.begin()
            self.open: set[str] = set()

        def act(self, **step: Any) -> None:
            if not search.over:
                self.history.do(**step)

        @precondition(lambda self: len(self.open) < OPEN_AT_ONCE)
        @rule(target=jobs, length=st.sampled_from(LENGTHS), at_once=st.booleans())
        def execute(self, length: int, at_once: bool) -> str:
            name = f"j{len(self.history.steps)}"
            self.open.add(name)
            self.act(do="execute", job=name, max_tokens=length, **({"at_once": True} if at_once else {}))
            return name

        @rule(job=jobs, count=st.integers(1, 3))
        def tokens(self, job: str, count: int) -> None:
            self.known(do="tokens", job=job, count=count)

        @rule(job=jobs)
        def cancel(self, job: str) -> None:
            self.known(do="cancel", job=job)

        @rule()
        def cancel_nobody(self) -> None:
            self.act(do="cancel", job="nobody")

        @rule(job=jobs, reset=st.booleans())
        def leave(self, job: str, reset: bool) -> None:
            self.open.discard(job)
            self.known(do="leave", job=job, reset=reset)

        @rule(job=jobs)
        def finish(self, job: str) -> None:
            self.open.discard(job)
            self.known(do="finish", job=job)

        @rule()
        def health(self) -> None:
            self.act(do="health")

        def known(self, **step: Any) -> None:
            if any(earlier.get("job") == step["job"] for earlier in self.history.steps):
                self.act(**step)

        def teardown(self) -> None:
            search.end(self.history)

    chosen = settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, database=None, print_blob=False,
        verbosity=Verbosity.quiet, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    with contextlib.suppress(Deviation, HypothesisException, ExceptionGroup):  # the smallest fault is kept in `search`
        run_state_machine_as_test(seeded(seed)(Worker), settings=chosen)


def tour(search: Search) -> None:
    """The fixed history first."""
    found = attempt(search, TOUR)
    if found:
        search.smallest = TOUR, found


def attempt(search: Search, steps: list[scripts.Step]) -> list[Any]:
    """Do these steps once more; what breaks a MUST in it."""
    history = search.begin()
    for step in steps:
        history.do(**step)
    return history.judge()


def reduce(search: Search) -> None:
    """Leave out step after step while the fault shows twice: hypothesis gives up where a race lets it flicker."""
    search.until = time.monotonic() + BUDGET_S * search.situation.scale
    number = 0
    while search.smallest is not None and number < len(search.smallest[0]) and not search.over:
        steps = search.smallest[0]
        gone = steps[number]
        without = [step for step in steps if step is not gone]
        if gone["do"] == "execute":
            without = [step for step in without if step.get("job") != gone["job"]]
        found = [attempt(search, without) for _ in range(2)]
        if all(found):
            search.smallest = without, found[-1]
            number = 0
        else:
            number += 1


@requirement("M0-SYS-6.3.1/valid-job-ends", "M0-W-1330/unknown-job")
async def test_any_history(situation: Situation) -> None:
    """Two control jobs, the tour, then --max-examples histories."""
    performer = scripts.Performer(situation, "controls")
    await performer.controls()
    search = Search(situation, asyncio.get_running_loop())
    await asyncio.to_thread(tour, search)
    await asyncio.to_thread(explore, search, situation.max_examples, situation.seed)
    await asyncio.to_thread(reduce, search)
    situation.fact("histories", search.histories)
    if search.smallest is not None:
        steps, found = search.smallest
        path = scripts.write(situation.report_dir, situation.recording.check, steps, found)
        situation.fact("repro", f"{path.parent.name}/{path.name}")

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from m0_worker.generation import Ending, StopReason, generate
from m0_worker.jobs import Abort, Aborted, DrainingError, DuplicateJobError, Job, LineFullError, Turnstile, drive
from scripted_model import ByteTokenizer, ScriptedModel, request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

DONE = Ending(StopReason.EOS)


def job(name: str) -> Job:
    return Job(request(job_id=name), "c")


class Line:
    """Jobs that note when they begin, and go on until they are told to end."""

    def __init__(self, depth: int = 8) -> None:
        self.turnstile = Turnstile(depth)
        self.begun: list[str] = []
        self.over: dict[str, str] = {}
        self.release: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def enter(self, name: str) -> Job:
        entered = job(name)
        self.turnstile.admit(entered)
        self.release[name] = asyncio.Event()
        self.tasks.append(asyncio.create_task(self._live(entered)))
        await self.settle()
        return entered

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def _live(self, entered: Job) -> None:
        name = entered.request.job_id

        async def work() -> Ending:
            assert entered.turn is not None
            await entered.turn
            self.begun.append(name)
            await self.release[name].wait()
            return DONE

        try:
            await entered.limited(work)
            self.over[name] = "done"
        except Aborted as aborted:
            self.over[name] = aborted.why.value
        finally:
            self.turnstile.leave(entered)


async def arrival_order() -> None:
    line = Line()
    for name in "abc":
        await line.enter(name)
    assert line.begun == ["a"]
    assert line.turnstile.waiting == 2
    for name in "abc":
        line.release[name].set()
        await line.settle()
    assert line.begun == ["a", "b", "c"]
    assert line.turnstile.running is None


async def cancel_everywhere() -> None:
    line = Line()
    jobs = [await line.enter(name) for name in "abcd"]
    jobs[1].stop(Abort.CANCELLED)  # waiting
    jobs[0].stop(Abort.CLIENT_GONE)  # running
    jobs[0].stop(Abort.CANCELLED)  # too late to be the reason
    await line.settle()
    assert line.over == {"a": "client_gone", "b": "cancelled"}
    assert line.begun == ["a", "c"]
    line.release["c"].set()
    line.release["d"].set()
    await line.settle()
    assert line.over == {"a": "client_gone", "b": "cancelled", "c": "done", "d": "done"}
    jobs[3].stop(Abort.CANCELLED)  # over: nothing happens
    await line.settle()
    assert line.over["d"] == "done"


async def limits() -> None:
    line = Line(depth=1)
    await line.enter("a")
    with pytest.raises(DuplicateJobError):
        line.turnstile.admit(job("a"))
    await line.enter("b")
    with pytest.raises(DuplicateJobError):
        line.turnstile.admit(job("b"))
    with pytest.raises(LineFullError):
        line.turnstile.admit(job("c"))
    line.release["a"].set()
    line.release["b"].set()
    await line.settle()
    await line.enter("a")
    assert line.begun == ["a", "b", "a"]
    line.release["a"].set()
    await line.settle()


async def drain() -> None:
    line = Line()
    for name in "abc":
        await line.enter(name)
    emptied: list[bool] = []
    line.turnstile.drain(lambda: emptied.append(True))
    await line.settle()
    assert line.over == {"b": "shutdown", "c": "shutdown"}
    assert not emptied
    with pytest.raises(DrainingError):
        line.turnstile.admit(job("d"))
    line.release["a"].set()
    await line.settle()
    assert line.over["a"] == "done"
    assert emptied == [True]
    idle = Turnstile(1)
    idle.drain(lambda: emptied.append(False))
    assert emptied == [True, False]


async def timeout() -> None:
    entered = job("a")

    async def work() -> Ending:
        entered.start_clock(0.01)
        await asyncio.sleep(10)
        return DONE

    with pytest.raises(Aborted) as raised:
        await entered.limited(work)
    assert raised.value.why is Abort.TIMEOUT


async def foreign_timeout() -> None:
    async def work() -> Ending:
        raise TimeoutError("somebody else's")

    with pytest.raises(TimeoutError, match="somebody else's"):
        await job("a").limited(work)


async def stopped_before_it_began() -> None:
    entered = job("a")
    entered.stop(Abort.CANCELLED)

    async def work() -> Ending:
        raise AssertionError("must not begin")

    with pytest.raises(Aborted):
        await entered.limited(work)


async def abort_frees_the_model_within_a_step() -> None:
    model = ScriptedModel([97] * 4000)
    entered = job("a")
    entered.turn = asyncio.get_running_loop().create_future()
    texts: list[str] = []

    async def write(new: list[str]) -> None:
        texts.extend(new)
        entered.stop(Abort.CANCELLED)  # while the first text is written: the next turn of the loop is the end

    steps = generate(model, ByteTokenizer(), request(max_tokens=2048))
    with pytest.raises(Aborted):
        await entered.limited(lambda: drive(steps, write))
    assert len(texts) == 1
    assert (model.opened, model.closed) == (1, 1)


@pytest.mark.parametrize(
    "scenario",
    [
        arrival_order,
        cancel_everywhere,
        limits,
        drain,
        timeout,
        foreign_timeout,
        stopped_before_it_began,
        abort_frees_the_model_within_a_step,
    ],
)
def test_turnstile(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_drive_gives_the_loop_its_turns() -> None:
    async def scenario() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def write(_texts: list[str]) -> None:
            pass

        bystander = asyncio.create_task(others())
        steps = generate(ScriptedModel([97] * 2000), ByteTokenizer(), request(max_tokens=2000))
        started = asyncio.get_running_loop().time()
        await drive(steps, write)
        elapsed = asyncio.get_running_loop().time() - started
        bystander.cancel()
        assert turns >= elapsed / 0.005

    asyncio.run(scenario())


class SlowSteps:
    """A generation whose every step takes as long as it is told."""

    def __init__(self, texts: list[str], seconds: float) -> None:
        self.texts = texts
        self.seconds = seconds

    def __call__(self) -> Generator[str | None, None, Ending]:
        for text in self.texts:
            time.sleep(self.seconds)
            yield text
        return DONE


@pytest.mark.parametrize(("seconds", "fewest", "most"), [(0.002, 20, 20), (0.0, 2, 10)])
def test_slow_texts_are_written_one_by_one_and_fast_ones_together(seconds: float, fewest: int, most: int) -> None:
    written: list[list[str]] = []

    async def write(texts: list[str]) -> None:
        written.append(texts)

    texts = [str(n) for n in range(20)]
    assert asyncio.run(drive(SlowSteps(texts, seconds)(), write)) is DONE
    assert [text for batch in written for text in batch] == texts
    assert len(written[0]) == 1, "the first token must not wait"
    assert fewest <= len(written) <= most

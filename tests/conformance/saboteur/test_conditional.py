"""Conditional defects: they lie where their condition holds, from where it holds, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.conditions import find
from m0_conformance.saboteur.conditional import Conditional, under
from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Head, Request, json_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Proxy:
    answered = 0

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Event] = {}


class Shouts(Defect):
    """Token by token."""

    name = "shouts"
    about = "Text is in capitals."
    kills = ("A/one",)

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token":
            event.data["t"] = event.data["t"].upper()
        return [event]

    def line(self, stream: str, text: str) -> list[str]:
        return []

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "status": "loud"}

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 9


class Reverses(Defect):
    """A whole stream."""

    name = "reverses"
    about = "Tokens come backwards."
    kills = ("A/one",)

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Any) -> AsyncIterator[Event]:
        for event in reversed([event async for event in events]):
            yield event


def job(name: str = "job-1", **fields: Any) -> Request:
    return Request("POST", "/execute", (), json.dumps({"job_id": name, "prompt": "a", **fields}).encode())


async def stream(defect: Conditional, request: Request, *texts: str, end: str = "end") -> list[str]:
    """What a client is told of a job whose worker says these texts; as the proxy asks for it."""
    sent = await defect.request(request, Proxy())
    assert sent is request
    defect.stream_head(request, Head(200))

    async def said() -> AsyncIterator[Event]:
        yield Event("started", {})
        for text in texts:
            yield Event("token", {"t": text})
        data = {"tokens_out": len(texts)} if end == "end" else {"code": end}
        yield Event("end" if end == "end" else "error", data)

    return [str(event.data.get("t", event.name)) async for event in defect.events(request, said(), Proxy())]


def of(action: type[Defect], condition: str) -> Conditional:
    return under(action, find(condition))()


def test_it_lies_to_jobs_that_meet_its_condition_and_to_no_other() -> None:
    async def drive() -> None:
        defect = of(Shouts, "draw=sampled")
        assert await stream(defect, job(temperature=0.5), "a", "b") == ["started", "A", "B", "end"]
        assert await stream(defect, job(temperature=0), "a", "b") == ["started", "a", "b", "end"]

    asyncio.run(drive())


def test_it_begins_where_its_condition_comes_true() -> None:
    async def drive() -> None:
        assert (await stream(of(Shouts, "place=second"), job(), "a", "b", "c"))[1:4] == ["a", "B", "c"]
        assert (await stream(of(Shouts, "said=multi-byte"), job(), "a", "é"))[1:3] == ["a", "É"]
        assert await stream(of(Reverses, "place=second"), job(), "a", "b", "c") == ["started", "a", "end", "c", "b"]

    asyncio.run(drive())


@pytest.mark.parametrize(
    ("condition", "lied"),
    [
        ("turn=first", [True, False, False, False]),
        ("turn=second", [False, True, False, False]),
        ("turn=later", [False, False, True, True]),
        ("after=cancel", [False, False, True, False]),
        ("after=stop", [False, True, False, False]),
        ("after=error", [False, False, False, True]),
    ],
)
def test_it_knows_the_life_of_its_worker(condition: str, lied: list[bool]) -> None:
    async def drive() -> list[bool]:
        defect = of(Shouts, condition)
        found = []
        for name, end in (("1", "end"), ("2", "CANCELLED"), ("3", "INTERNAL"), ("4", "end")):
            heard = await stream(defect, job(name, stop=["x"], max_tokens=9), "a", end=end)
            found.append("A" in heard)
        return found

    assert asyncio.run(drive()) == lied


def test_a_refusal_and_a_client_that_left_are_part_of_a_life() -> None:
    async def drive() -> None:
        defect = of(Shouts, "after=refusal")
        refused = job()
        await defect.request(refused, Proxy())
        await defect.answer(refused, json_answer(400, {}), Proxy())
        assert "A" in await stream(defect, job(), "a")
        assert "a" in await stream(defect, job(), "a")
        defect = of(Shouts, "after=disconnect")
        await defect.request(left := job(), Proxy())
        events = defect.events(left, started(), Proxy())
        await anext(events)
        defect.client_left(left)
        assert "A" in await stream(defect, job("2"), "a")

    async def started() -> AsyncIterator[Event]:
        yield Event("started", {})
        yield Event("token", {"t": "x"})

    asyncio.run(drive())


def test_who_waits_is_seen_by_both_sides() -> None:
    async def drive(condition: str) -> list[bool]:
        defect = of(Shouts, condition)
        gate = asyncio.Event()

        async def one(name: str) -> bool:
            request = job(name)
            await defect.request(request, Proxy())

            async def said() -> AsyncIterator[Event]:
                await gate.wait()
                yield Event("token", {"t": "a"})
                yield Event("end", {})

            return "A" in [event.data.get("t") async for event in defect.events(request, said(), Proxy())]

        tasks = []
        for name in "1234":
            tasks.append(asyncio.create_task(one(name)))
            await asyncio.sleep(0)
        gate.set()
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(drive("company=alone")) == [True, False, False, False]
    assert asyncio.run(drive("company=waited-in-line")) == [False, False, False, True]
    assert asyncio.run(drive("company=three-behind")) == [True, False, False, False]
    assert asyncio.run(drive("company=one-behind")) == [True, True, True, False]


def test_lines_health_and_the_end_are_lied_about_where_it_holds() -> None:
    async def drive() -> None:
        defect = of(Shouts, "draw=sampled")
        assert defect.line("stdout", '{"event": "execute_start", "job_id": "job-1"}') != []
        await stream(defect, job(), "a")
        assert defect.line("stdout", '{"event": "execute_start", "job_id": "job-1"}') == []
        assert defect.line("stdout", "words") == ["words"]
        later = of(Shouts, "turn=second")
        health = Request("GET", "/health", (), b"")
        await later.request(health, Proxy())
        assert later.health({"status": "healthy"}) == {"status": "healthy"}
        await stream(later, job(), "a")
        await later.request(health, Proxy())
        assert later.health({"status": "healthy"}) == {"status": "loud"}
        await later.signal(15, Proxy())
        assert await later.exit_code(0, ready=True) == 9
        assert await of(Shouts, "turn=second").exit_code(0, ready=True) == 0

    asyncio.run(drive())


def test_it_counts_whom_it_lied_to() -> None:
    async def drive() -> None:
        defect = of(Shouts, "draw=sampled")
        seen: set[str] = set()
        defect.tally = seen.add
        await stream(defect, job(temperature=0), "a")
        assert seen == set()
        await stream(defect, job(), "1")
        assert seen == {"met"}
        await stream(defect, job(), "a")
        assert seen == {"met", "acted"}

    asyncio.run(drive())


def test_it_is_named_after_action_and_condition() -> None:
    kind = under(Shouts, find("after=cancel"))
    assert kind.name.endswith("@after=cancel")
    assert kind.about == "Text is in capitals. Only where this holds: the job before was cancelled."
    assert "M0-W-1330/next-job" in kind.of_condition
    assert kind.kills == ("A/one",)


Shouts.name = Reverses.name = ""

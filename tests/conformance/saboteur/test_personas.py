"""Personas are declared as what they are: parts that exist, clauses that exist, nothing both broken and unjudged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from m0_conformance.judging.causes import known_causes
from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.http import Answer, Request, json_answer
from m0_conformance.saboteur.persona_run import read
from m0_conformance.saboteur.personas import find, personas
from m0_conformance.saboteur.several import Several
from m0_conformance.saboteur.traits import NoCancel, PlainErrors, StandIns
from m0_conformance.spec.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONLY_ONE = {"only-slow"}


def test_there_are_at_least_eight_and_each_breaks_much() -> None:
    found = personas()
    assert len(found) >= 8
    for name, persona in found.items():
        assert name in ONLY_ONE or 15 <= len(persona.parts) <= 30, name
        assert len(persona.kind().parts) == len(persona.parts)


def test_what_is_expected_names_clauses_and_causes_that_exist() -> None:
    clauses, causes = load_registry().clauses, {cause.name for cause in known_causes()}
    requirements = {name.partition("/")[0] for name in clauses}
    for persona in personas().values():
        assert (persona.fails | persona.not_tested | persona.may) <= set(clauses), persona.name
        assert set(persona.causes) <= causes | requirements, persona.name
        assert not persona.fails & persona.not_tested, persona.name


def test_a_persona_is_found_by_its_prefix() -> None:
    kind = find("persona:go-server")
    assert kind is not None
    assert issubclass(kind, Several)
    assert find("persona:nobody") is None


def test_an_answer_of_one_part_passes_those_before_it() -> None:
    class Both(Several):
        parts = (PlainErrors, NoCancel, StandIns)

    async def refused(request: Request) -> Request | Answer:
        return await Both().request(request, None)  # type: ignore[arg-type]  # no part of these asks the proxy

    cancel = asyncio.run(refused(Request("POST", "/cancel", (), b"{}")))
    assert isinstance(cancel, Answer)
    assert cancel.head.status == 404
    job = Request("POST", "/execute", (), b"{}")
    answer = asyncio.run(Both().answer(job, json_answer(400, {}), None))  # type: ignore[arg-type]  # the same
    assert answer.head.header("content-type") == "text/plain"

    async def texts() -> list[str]:
        async def events() -> AsyncIterator[Event]:
            yield Event("token", {"t": " a\n", "i": 0})

        return [event.data["t"] async for event in Both().events(job, events(), None)]  # type: ignore[arg-type]  # the same

    assert asyncio.run(texts()) == ["\u0120a\u010a"]


def test_a_report_that_differs_from_the_declaration_is_told() -> None:
    persona = personas()["go-server"]
    clause = {"disposition": "active", "reason": "told in words", "id": "M0-W-1300/streams", "status": "FAIL"}
    open_one = {**clause, "id": "M0-W-1310/event-line", "status": "NOT_TESTED", "reason": "no"}
    report = {"requirements": [{"clauses": [clause, open_one]}], "causes": [{"name": "framing"}]}
    told = " ".join(read(persona, report).complaints())
    assert "broken falsely: M0-W-1300/streams" in told
    assert "without a reason of their own: M0-W-1310/event-line" in told
    assert "causes named falsely: framing" in told
    assert "not seen broken: M0-W-1100/port-free" in told

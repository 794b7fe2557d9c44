"""Defects of one function, and defects that are data: what they become, and what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.saboteur.catalogue import declared
from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.http import Request
from m0_conformance.saboteur.lie import lie, on_event, on_request, too_strict

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Defect

REQUEST = Request("POST", "/execute", (), b'{"temperature": 2}')


def test_a_function_becomes_a_defect_that_takes_what_it_names() -> None:
    @on_event("M0-W-1312/token-index", source="nowhere", collateral=("M0-W-1312/token-fields",))
    def odd_test_index(event: Event) -> list[Event]:
        """i is always seven."""
        event.data["i"] = 7
        return [event]

    kind: type[Defect] = odd_test_index
    assert (kind.name, kind.about, kind.source) == ("odd-test-index", "i is always seven.", "nowhere")
    assert kind.kills == ("M0-W-1312/token-index",)
    assert kind.collateral == ("M0-W-1312/token-fields",)
    (event,) = kind().event(REQUEST, Event("token", {"i": 0}))
    assert event.data == {"i": 7}
    kind.name = ""  # what has no name is no entry of the catalogue


def test_a_plain_function_may_stand_for_a_coroutine() -> None:
    @on_request("M0-W-1300/streams")
    def odd_test_path(request: Request) -> Request:
        """Every request goes to /elsewhere."""
        return Request(request.method, "/elsewhere", request.headers, request.body)

    sent: Any = asyncio.run(odd_test_path().request(REQUEST, None))  # type: ignore[arg-type]  # this lie asks for none
    assert sent.target == "/elsewhere"
    odd_test_path.name = ""


def test_a_refused_value_is_a_refusal_of_its_field() -> None:
    @too_strict("M0-W-1300/temperature-range", field="temperature")
    def odd_test_two(value: object) -> bool:
        """Two is refused."""
        return value == 2

    answer: Any = asyncio.run(odd_test_two().request(REQUEST, None))  # type: ignore[arg-type]  # as above
    assert answer.head.status == 400
    odd_test_two.name = ""


def test_what_no_hook_offers_is_an_error() -> None:
    with pytest.raises(TypeError, match="event offers request, event, not stream"):

        @on_event("M0-W-1312/token-index")
        def odd_test_wrong(stream: object) -> list[Event]: ...

    with pytest.raises(TypeError, match="Defect has no colour"):
        on_event("M0-W-1312/token-index", colour="red")
    with pytest.raises(AttributeError):
        lie("no_such_hook")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"lie": "Nothing"}, "x/defects.toml: odd has lie 'Nothing'; known: .*Accepts"),
        ({"lie": "Accepts", "colour": "red"}, "x/defects.toml: odd has the unknown key 'colour'"),
    ],
)
def test_data_that_no_lie_knows_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        declared("x/defects.toml", "odd", table)

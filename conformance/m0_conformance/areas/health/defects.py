"""Defects of GET /health: its fields, and what it says of the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.lie import on_answer, on_health
from m0_conformance.saboteur.lies import is_health

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Answer, Request


ABSENT: Any = object()


class HealthField(Defect):
    """Sets one field of the body, or takes it away."""

    field: ClassVar[str] = ""
    value: ClassVar[Any] = ABSENT

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        body.pop(self.field, None)
        return body if self.value is ABSENT else {**body, self.field: self.value}


@on_answer("M0-W-1320/answers-json", source="a framework's default")
def health_plain_text(request: Request, answer: Answer) -> Answer:
    """/health is announced as plain text."""
    if is_health(request):
        answer.head.set("content-type", "text/plain; charset=utf-8")
    return answer


@on_answer("M0-W-1320/answers-json", source="a wrong default status")
def health_201(request: Request, answer: Answer, proxy: Proxy) -> Answer:
    """/health is answered with 201."""
    if is_health(request) and answer.head.status == 200 and proxy.answered > 1:
        answer.head.status = 201
    return answer


@on_health("M0-W-1320/uptime-seconds", source="a number formatted for people")
def health_uptime_text(body: dict[str, Any]) -> dict[str, Any]:
    """uptime_seconds is a string."""
    return {**body, "uptime_seconds": str(body.get("uptime_seconds"))}


@on_health("M0-W-1320/uptime-seconds", source="a wrong unit")
def health_uptime_milliseconds(body: dict[str, Any]) -> dict[str, Any]:
    """uptime_seconds counts milliseconds."""
    return {**body, "uptime_seconds": body["uptime_seconds"] * 1000}


@on_health("M0-W-1364/vocab-size", source="known defect 37: the first dimension")
def health_vocabulary_wrong(body: dict[str, Any]) -> dict[str, Any]:
    """vocab_size is the embedding's width."""
    return {**body, "vocab_size": 896}

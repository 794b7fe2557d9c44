"""Kinds of lies that many defects share: another request to the worker, or a refusal instead of its answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

from m0_conformance.saboteur.defect import Defect, Event, Proxy
from m0_conformance.saboteur.http import Answer, Request, json_answer

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy

OTHER_TEXT = str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza")
"""Turns any word into another one of the same length."""
AND_BACK = str.maketrans("bcdefghijklmnopqrstuvwxyza", "abcdefghijklmnopqrstuvwxyz")


def number(value: object) -> TypeGuard[float]:
    """A finite JSON number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def integer(value: object) -> TypeGuard[int]:
    """A JSON integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_execute(request: Request) -> bool:
    """POST /execute."""
    return request.method == "POST" and request.path == "/execute"


def is_cancel(request: Request) -> bool:
    """POST /cancel."""
    return request.method == "POST" and request.path == "/cancel"


def is_health(request: Request) -> bool:
    """GET /health."""
    return request.method == "GET" and request.path == "/health"


def job_of(request: Request) -> str:
    """The job_id a request names."""
    return str(request.json().get("job_id"))


def refusal(field: str, message: str = "is not valid", status: int = 400) -> Answer:
    """A well-formed refusal of one field."""
    error = {"field": field, "constraint": "valid", "message": f"{field} {message}"}
    body = {"code": "INVALID_REQUEST", "message": f"invalid request: {field}", "retriable": False, "errors": [error]}
    return json_answer(status, body)


def failure(message: str = "something went wrong") -> Event:
    """A well-formed error event of a job that failed."""
    return Event("error", {"code": "INTERNAL", "message": message, "retriable": True})


class Rewrites(Defect):
    """Sends the worker another job than the one that was asked for."""

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The job to run instead; None leaves the request alone, byte for byte."""
        raise NotImplementedError

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        """The rewritten job, instead of the client's."""
        if not is_execute(request) or not (job := request.json()):
            return request
        changed = self.rewrite(dict(job))
        return request if changed is None else request.with_json(changed)


class Hole(Rewrites):
    """Takes an illegal value of one field for a legal one."""

    field: ClassVar[str] = ""
    instead: ClassVar[Any] = None
    """The value that is used in its place."""

    @staticmethod
    def illegal(value: Any) -> bool:
        """The values that slip through."""
        raise NotImplementedError

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The same job with the legal value."""
        if self.field not in job or not self.illegal(job[self.field]):
            return None
        return {**job, self.field: self.instead}


class TooStrict(Defect):
    """Refuses a legal value of one field."""

    field: ClassVar[str] = ""

    @staticmethod
    def refused(value: Any) -> bool:
        """The legal values that are refused."""
        raise NotImplementedError

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        """A refusal for what should have been accepted."""
        if is_execute(request) and self.field in (job := request.json()) and self.refused(job[self.field]):
            return refusal(self.field)
        return request


async def cancel(proxy: Proxy, job: str) -> None:
    """Cancel a job at the worker."""
    empty = Request("POST", "/cancel", (("Content-Type", "application/json"),), b"")
    await proxy.ask(empty.with_json({"job_id": job}))


def sane(job: dict[str, Any], name: str, low: float, high: float) -> bool:
    """The field is there and legal, so that a rewrite hides no refusal."""
    value = job.get(name)
    return number(value) and low <= value <= high

"""Defects of what bad requests are answered with: status, JSON, codes, unknown routes."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.http import Answer, Request, json_answer, text_answer
from m0_conformance.saboteur.lie import lie, on_request, rewrites
from m0_conformance.saboteur.lies import Rewrites, integer, is_execute

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy


_TYPES = {
    "job_id": str, "prompt": str, "max_tokens": int, "temperature": (int, float), "top_p": (int, float), "top_k": int,
    "repetition_penalty": (int, float), "stop": list, "seed": int,
}  # fmt: skip


def of_another_type(job: dict[str, Any]) -> list[str]:
    """Fields whose JSON type is wrong; null is no type here."""
    found = []
    for name, kind in _TYPES.items():
        value = job.get(name)
        wrong = isinstance(value, bool) or not isinstance(value, kind)  # type: ignore[arg-type]  # a type or several
        wrong = wrong or (name == "stop" and any(not isinstance(item, str) for item in value or []))
        if value is not None and wrong:
            found.append(name)
    return found


class Refusals(Defect):
    """Changes the worker's refusals of jobs."""

    def refusal(self, request: Request, answer: Answer) -> Answer:
        """What a refusal becomes."""
        raise NotImplementedError

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        return self.refusal(request, answer) if is_execute(request) and answer.head.status == 400 else answer


refuses_as = lie("refusal", Refusals)


@refuses_as(
    "M0-W-1302/status-400",
    collateral=("M0-W-1302/wrong-types", "M0-W-1302/malformed-json", "M0-W-1302/non-finite"),
    source="known defect 15: a framework's own validation",
)
def status_422(answer: Answer) -> Answer:
    """Requests that fail validation are answered with 422."""
    answer.head.status = 422
    return answer


@refuses_as(
    "M0-W-1302/wrong-types", source="known defect 15: the type check is the framework's, the range check the worker's"
)
def status_422_for_types(request: Request, answer: Answer) -> Answer:
    """Values of the wrong type are answered with 422, all else with 400."""
    if of_another_type(request.json()):
        answer.head.status = 422
    return answer


@refuses_as("M0-W-1302/malformed-json", source="known defect 15")
def status_415_for_broken_json(request: Request, answer: Answer) -> Answer:
    """A body that is no JSON is answered with 415."""
    try:
        json.loads(request.body)
    except (ValueError, RecursionError):
        answer.head.status = 415
    return answer


@refuses_as("M0-W-1302/error-json", source="known defect 15")
def errors_in_plain_text() -> Answer:
    """Refusals are plain text."""
    return text_answer(400, "Failed to deserialize the JSON body into the target type")


@refuses_as("M0-W-1302/error-json", source="a framework's default")
def errors_without_content_type(answer: Answer) -> Answer:
    """Refusals hold JSON and are announced as text/html."""
    answer.head.set("content-type", "text/html")
    return answer


@refuses_as("M0-W-1302/names-field", source="one catch-all handler")
def errors_without_field() -> Answer:
    """Refusals do not say which field is wrong."""
    return json_answer(400, {"code": "INVALID_REQUEST", "message": "the request is invalid", "retriable": False})


@refuses_as("M0-W-1500/invalid-request-code", source="a catch-all code")
def errors_code_internal(answer: Answer) -> Answer:
    """Refusals carry the code INTERNAL."""
    return Answer(answer.head, answer.body.replace(b"INVALID_REQUEST", b"INTERNAL"))


@refuses_as("M0-W-1510/invalid-not-retriable", source="retriable hard-coded")
def errors_retriable(answer: Answer) -> Answer:
    """Refusals invite to try again."""
    body = answer.json()
    holder = body["error"] if isinstance(body.get("error"), dict) else body
    holder["retriable"] = True
    return Answer(answer.head, json.dumps(body).encode())


@refuses_as("M0-W-1302/never-5xx", source="mlflow #8697")
def status_500_for_types(request: Request, answer: Answer) -> Answer:
    """A value of the wrong type is a server error."""
    return json_answer(500, {"code": "INTERNAL"}) if of_another_type(request.json()) else answer


@on_request("M0-W-1302/never-5xx", source="recursive parsers")
def connection_breaks_on_nesting(request: Request) -> Request | Answer:
    """Deeply nested JSON breaks the connection: the parser overflowed its stack."""
    if is_execute(request) and max(request.body.count(b"["), request.body.count(b"{")) > 5000:
        raise ConnectionResetError("overflow")
    return request


@on_request("M0-W-1302/never-5xx", source="known defect 34; strict encoders meet what JSON allows")
def status_500_for_surrogates(request: Request) -> Request | Answer:
    """A lone surrogate in the prompt is a server error: it cannot be encoded."""
    lone = is_execute(request) and any("\ud800" <= letter <= "\udfff" for letter in str(request.json().get("prompt")))
    return json_answer(500, {"code": "INTERNAL", "message": "cannot encode"}) if lone else request


@rewrites("M0-W-1302/wrong-types", source="coercing validators")
def hole_numbers_as_text(job: dict[str, Any]) -> dict[str, Any] | None:
    """Numbers are accepted as text."""
    changed = dict(job)
    for name in ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed"):
        if isinstance(changed.get(name), str):
            changed[name] = int(float(changed[name]))
    return changed if changed != job else None


@rewrites("M0-W-1302/wrong-types", source="languages in which a boolean is a number")
def hole_booleans_as_numbers(job: dict[str, Any]) -> dict[str, Any] | None:
    """true is accepted as the number 1."""
    found = {name: int(value) for name, value in job.items() if isinstance(value, bool)}
    return {**job, **found} if found else None


@on_request("M0-W-1302/malformed-json", source="an undocumented batch form")
def hole_array_body(request: Request) -> Request | Answer:
    """Of an array of jobs the first is served."""
    if is_execute(request) and request.body[:2] == b"[{":
        return request.with_json(json.loads(request.body)[0])
    return request


@on_request("M0-W-1302/malformed-json", source="lossy decoding")
def hole_broken_utf8_body(request: Request) -> Request | Answer:
    """Bytes that are no UTF-8 are replaced instead of refused."""
    text = request.body.decode("utf-8", "replace")
    broken = is_execute(request) and "\ufffd" in text and text.encode() != request.body
    return Request(request.method, request.target, request.headers, text.encode()) if broken else request


@rewrites("M0-W-1302/non-finite", source="reading E-TEMP0; a check written as value < 0 or value > 2")
def hole_nan(job: dict[str, Any]) -> dict[str, Any] | None:
    """NaN is accepted: no comparison with a limit is true."""
    found = {name for name, value in job.items() if isinstance(value, float) and math.isnan(value)}
    kept = {name: value for name, value in job.items() if name not in found}
    return {**kept, "max_tokens": 1} if found else None  # nobody waits for a long text


@rewrites("M0-W-1302/non-finite", source="parsers that turn 1e999 into infinity")
def hole_infinity(job: dict[str, Any]) -> dict[str, Any] | None:
    """A number too large for a double is clamped to the limit."""
    found = {name: 1.0 for name, value in job.items() if isinstance(value, float) and math.isinf(value)}
    return {**job, **found, "max_tokens": 1} if found else None


@on_request(
    "M0-W-1302/unknown-field", collateral=("M0-W-1302/never-5xx",), source="keyword arguments built from the body"
)
def unknown_field_500(request: Request) -> Request | Answer:
    """A field that is not known is a server error."""
    odd = is_execute(request) and "lighthouse" in request.json()
    return json_answer(500, {"code": "INTERNAL", "message": "unexpected keyword argument"}) if odd else request


@on_request("M0-W-1302/wrong-method", source="a router that ignores the method")
def any_method(request: Request) -> Request | Answer:
    """GET /execute and POST /health are answered with 200."""
    if (request.method, request.path) in {("GET", "/execute"), ("POST", "/health")}:
        return json_answer(200, {"status": "ok"})
    return request


@on_request("M0-W-1302/unknown-path", source="a catch-all route")
def landing_page(request: Request) -> Request | Answer:
    """Every unknown path shows a landing page with status 200."""
    known = request.path in {"/health", "/execute", "/cancel", "/metrics"}
    return text_answer(200, "Welcome") if request.method == "GET" and not known else request


@on_request("M0-W-1001/no-load-route", source="routes planned for later milestones")
def load_route(request: Request) -> Request | Answer:
    """POST /load switches the model."""
    loads = request.method == "POST" and request.path in {"/load", "/models/load"}
    return json_answer(200, {"loaded": True}) if loads else request


class NextSuffers(Rewrites):
    name = "refusals-leave-traces"
    about = "After a refused request jobs are cut short."
    kills = ("M0-W-1302/next-unaffected",)
    source = "a half-built job that keeps a slot"
    refused = False

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        self.refused = self.refused or (is_execute(request) and answer.head.status == 400)
        return answer

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("max_tokens")
        return {**job, "max_tokens": 11} if self.refused and integer(asked) and 11 < asked <= 2048 else None

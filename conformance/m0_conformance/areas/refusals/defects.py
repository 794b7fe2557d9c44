"""Defects of what bad requests are answered with: status, JSON, codes, unknown routes."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.http import Answer, Request, json_answer, text_answer
from m0_conformance.saboteur.lies import Rewrites, is_execute, whole

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


class Status422(Refusals):
    name = "status-422"
    about = "Requests that fail validation are answered with 422."
    kills = ("M0-W-1302/status-400",)
    collateral = ("M0-W-1302/wrong-types", "M0-W-1302/malformed-json", "M0-W-1302/non-finite")
    source = "known defect 15: a framework's own validation"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        answer.head.status = 422
        return answer


class Status422ForTypes(Refusals):
    name = "status-422-for-types"
    about = "Values of the wrong type are answered with 422, all else with 400."
    kills = ("M0-W-1302/wrong-types",)
    source = "known defect 15: the type check is the framework's, the range check the worker's"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        if of_another_type(request.json()):
            answer.head.status = 422
        return answer


class Status415(Refusals):
    name = "status-415-for-broken-json"
    about = "A body that is no JSON is answered with 415."
    kills = ("M0-W-1302/malformed-json",)
    source = "known defect 15"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        try:
            json.loads(request.body)
        except (ValueError, RecursionError):
            answer.head.status = 415
        return answer


class PlainTextErrors(Refusals):
    name = "errors-in-plain-text"
    about = "Refusals are plain text."
    kills = ("M0-W-1302/error-json",)
    source = "known defect 15"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        return text_answer(400, "Failed to deserialize the JSON body into the target type")


class UntypedErrors(Refusals):
    name = "errors-without-content-type"
    about = "Refusals hold JSON and are announced as text/html."
    kills = ("M0-W-1302/error-json",)
    source = "a framework's default"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        answer.head.set("content-type", "text/html")
        return answer


class NamelessErrors(Refusals):
    name = "errors-without-field"
    about = "Refusals do not say which field is wrong."
    kills = ("M0-W-1302/names-field",)
    source = "one catch-all handler"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        return json_answer(400, {"code": "INVALID_REQUEST", "message": "the request is invalid", "retriable": False})


class OtherCode(Refusals):
    name = "errors-code-internal"
    about = "Refusals carry the code INTERNAL."
    kills = ("M0-W-1500/invalid-request-code",)
    source = "a catch-all code"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        return Answer(answer.head, answer.body.replace(b"INVALID_REQUEST", b"INTERNAL"))


class RetryPlease(Refusals):
    name = "errors-retriable"
    about = "Refusals invite to try again."
    kills = ("M0-W-1510/invalid-not-retriable",)
    source = "retriable hard-coded"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        body = answer.json()
        holder = body["error"] if isinstance(body.get("error"), dict) else body
        holder["retriable"] = True
        return Answer(answer.head, json.dumps(body).encode())


class ServerError(Refusals):
    name = "status-500-for-types"
    about = "A value of the wrong type is a server error."
    kills = ("M0-W-1302/never-5xx",)
    source = "mlflow #8697"

    def refusal(self, request: Request, answer: Answer) -> Answer:
        return json_answer(500, {"code": "INTERNAL"}) if of_another_type(request.json()) else answer


class DeepNesting(Defect):
    name = "connection-breaks-on-nesting"
    about = "Deeply nested JSON breaks the connection: the parser overflowed its stack."
    kills = ("M0-W-1302/never-5xx",)
    source = "recursive parsers"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request) and max(request.body.count(b"["), request.body.count(b"{")) > 5000:
            raise ConnectionResetError("overflow")
        return request


class Surrogates(Defect):
    name = "status-500-for-surrogates"
    about = "A lone surrogate in the prompt is a server error: it cannot be encoded."
    kills = ("M0-W-1302/never-5xx",)
    source = "known defect 34; strict encoders meet what JSON allows"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        lone = is_execute(request) and any(
            "\ud800" <= letter <= "\udfff" for letter in str(request.json().get("prompt"))
        )
        return json_answer(500, {"code": "INTERNAL", "message": "cannot encode"}) if lone else request


class TextForNumbers(Rewrites):
    name = "hole-numbers-as-text"
    about = "Numbers are accepted as text."
    kills = ("M0-W-1302/wrong-types",)
    source = "coercing validators"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        changed = dict(job)
        for name in ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed"):
            if isinstance(changed.get(name), str):
                changed[name] = int(float(changed[name]))
        return changed if changed != job else None


class BooleanForNumbers(Rewrites):
    name = "hole-booleans-as-numbers"
    about = "true is accepted as the number 1."
    kills = ("M0-W-1302/wrong-types",)
    source = "languages in which a boolean is a number"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        found = {name: int(value) for name, value in job.items() if isinstance(value, bool)}
        return {**job, **found} if found else None


class FirstOfArray(Defect):
    name = "hole-array-body"
    about = "Of an array of jobs the first is served."
    kills = ("M0-W-1302/malformed-json",)
    source = "an undocumented batch form"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request) and request.body[:2] == b"[{":
            return request.with_json(json.loads(request.body)[0])
        return request


class LatinBody(Defect):
    name = "hole-broken-utf8-body"
    about = "Bytes that are no UTF-8 are replaced instead of refused."
    kills = ("M0-W-1302/malformed-json",)
    source = "lossy decoding"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        text = request.body.decode("utf-8", "replace")
        broken = is_execute(request) and "\ufffd" in text and text.encode() != request.body
        return Request(request.method, request.target, request.headers, text.encode()) if broken else request


class NotFinite(Rewrites):
    name = "hole-nan"
    about = "NaN is accepted: no comparison with a limit is true."
    kills = ("M0-W-1302/non-finite",)
    source = "reading E-TEMP0; a check written as value < 0 or value > 2"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        found = {name for name, value in job.items() if isinstance(value, float) and math.isnan(value)}
        kept = {name: value for name, value in job.items() if name not in found}
        return {**kept, "max_tokens": 1} if found else None  # nobody waits for a long text


class Infinite(Rewrites):
    name = "hole-infinity"
    about = "A number too large for a double is clamped to the limit."
    kills = ("M0-W-1302/non-finite",)
    source = "parsers that turn 1e999 into infinity"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        found = {name: 1.0 for name, value in job.items() if isinstance(value, float) and math.isinf(value)}
        return {**job, **found, "max_tokens": 1} if found else None


class UnknownField(Defect):
    name = "unknown-field-500"
    about = "A field that is not known is a server error."
    kills = ("M0-W-1302/unknown-field",)
    collateral = ("M0-W-1302/never-5xx",)
    source = "keyword arguments built from the body"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        odd = is_execute(request) and "lighthouse" in request.json()
        return json_answer(500, {"code": "INTERNAL", "message": "unexpected keyword argument"}) if odd else request


class AnyMethod(Defect):
    name = "any-method"
    about = "GET /execute and POST /health are answered with 200."
    kills = ("M0-W-1302/wrong-method",)
    source = "a router that ignores the method"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if (request.method, request.path) in {("GET", "/execute"), ("POST", "/health")}:
            return json_answer(200, {"status": "ok"})
        return request


class LandingPage(Defect):
    name = "landing-page"
    about = "Every unknown path shows a landing page with status 200."
    kills = ("M0-W-1302/unknown-path",)
    source = "a catch-all route"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        known = request.path in {"/health", "/execute", "/cancel", "/metrics"}
        return text_answer(200, "Welcome") if request.method == "GET" and not known else request


class LoadRoute(Defect):
    name = "load-route"
    about = "POST /load switches the model."
    kills = ("M0-W-1001/no-load-route",)
    source = "routes planned for later milestones"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
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
        return {**job, "max_tokens": 11} if self.refused and whole(asked) and 11 < asked <= 2048 else None

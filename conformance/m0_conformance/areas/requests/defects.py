"""Defects of POST /execute's parameters: each limit from both sides, defaults, and the same job in other words."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.http import Answer, Request
from m0_conformance.saboteur.lie import hole, on_request, rewrites, too_strict
from m0_conformance.saboteur.lies import Rewrites, TooStrict, integer, is_execute, number, refusal, sane

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy


@rewrites("M0-W-1300/optional-defaults", source="another server's default")
def default_temperature(job: dict[str, Any]) -> dict[str, Any] | None:
    """Without a temperature, 0.7 is used."""
    return None if "temperature" in job else {**job, "temperature": 0.7}


@on_request("M0-W-1300/deadline-header", source="a feature of a later milestone")
def deadline_obeyed(request: Request) -> Request | Answer:
    """A deadline that has passed, or cannot be read, refuses the job."""
    deadline = next((value for name, value in request.headers if name.lower() == "x-deadline"), "")
    return refusal("X-Deadline") if deadline == "soon" or deadline.startswith("2001") else request


class JobIdsForEver(Defect):
    name = "job-id-used-once"
    about = "A job_id can never be used again."
    kills = ("M0-W-1300/job-id-reuse",)
    source = "a table of jobs that is never cleaned"

    def __init__(self) -> None:
        self.seen: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        job = request.json().get("job_id")
        if not is_execute(request) or not isinstance(job, str):
            return request
        if job in self.seen:
            return refusal("job_id", "exists already")
        self.seen.add(job)
        return request


@hole(
    "M0-W-1300/job-id",
    field="job_id",
    instead="unnamed",
    collateral=("M0-W-1312/started-job-id",),
    source="a check for presence only",
)
def hole_job_id_empty(value: object) -> bool:
    """An empty job_id is accepted."""
    return value == ""


@rewrites("M0-W-1300/job-id", source="an optional field with a default factory")
def hole_job_id_missing(job: dict[str, Any]) -> dict[str, Any] | None:
    """A missing or null job_id is made up."""
    return {**job, "job_id": "made-up"} if job.get("job_id") is None else None


@hole("M0-W-1300/prompt", field="prompt", instead="a", source="a check for presence only")
def hole_prompt_empty(value: object) -> bool:
    """An empty prompt is accepted."""
    return value == ""


@rewrites("M0-W-1300/prompt", source="an optional field")
def hole_prompt_missing(job: dict[str, Any]) -> dict[str, Any] | None:
    """A missing or null prompt is taken for an empty one and served."""
    return {**job, "prompt": "a"} if job.get("prompt") is None else None


class OptionsMandatory(TooStrict):
    name = "max-tokens-mandatory"
    about = "A body without max_tokens is refused."
    kills = ("M0-W-1300/minimal-body",)
    source = "known defect 16"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        job = request.json() if is_execute(request) else {}
        return refusal("max_tokens", "is missing") if job and "max_tokens" not in job else request


@rewrites("M0-W-1300/prompt-max", source="a buffer that truncates")
def hole_prompt_32769(job: dict[str, Any]) -> dict[str, Any] | None:
    """A prompt of one character too many is cut instead of refused."""
    prompt = job.get("prompt")
    long = isinstance(prompt, str) and len(prompt) > 32768
    return {**job, "prompt": str(prompt)[:32768]} if long else None


@too_strict(
    "M0-W-1300/prompt-max",
    "M0-W-1300/body-size",
    field="prompt",
    collateral=("M0-W-1300/prompt-unit",),
    source="known defect 17: limits that are not the spec's",
)
def prompt_32768_refused(value: object) -> bool:
    """The longest legal prompt is refused: less-than instead of at-most."""
    return isinstance(value, str) and len(value) == 32768


@too_strict("M0-W-1300/prompt-unit", field="prompt", source="known defect 17: lengths counted in bytes")
def prompt_counted_in_bytes(value: object) -> bool:
    """The prompt's limit counts UTF-8 bytes."""
    return isinstance(value, str) and len(value.encode("utf-8", "replace")) > 32768


@too_strict("M0-W-1300/prompt-unit", field="prompt", source="a language whose strings are UTF-16")
def prompt_counted_in_utf16(value: object) -> bool:
    """The prompt's limit counts UTF-16 units."""
    return isinstance(value, str) and len(value.encode("utf-16-le", "surrogatepass")) > 2 * 32768


class BodyLimit(TooStrict):
    name = "body-limit-150-kb"
    about = "A legal body of more than 150 kB is refused with 413."
    kills = ("M0-W-1300/body-size",)
    source = "a web server's default limit; known defect 15"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        large = is_execute(request) and len(request.body) > 150_000
        return refusal("body", "is too large", status=413) if large else request


@hole("M0-W-1300/max-tokens-range", field="max_tokens", instead=1, source="zero taken for unset")
def hole_max_tokens_0(value: object) -> bool:
    """max_tokens 0 is accepted."""
    return integer(value) and value == 0


@hole("M0-W-1300/max-tokens-range", field="max_tokens", instead=2048, source="upstream's clamp")
def hole_max_tokens_2049(value: object) -> bool:
    """max_tokens above 2048 is clamped instead of refused."""
    return integer(value) and 2048 < value < 10**9


@too_strict(
    "M0-W-1300/max-tokens-range",
    field="max_tokens",
    collateral=(  # the checks of other limits ask for one token
        "M0-W-1300/repetition-penalty-range",
        "M0-W-1300/seed-range",
        "M0-W-1300/temperature-range",
        "M0-W-1300/top-k-range",
        "M0-W-1300/top-p-range",
        "M0-W-1302/names-field",
        "M0-W-1300/prompt-max",
        "M0-W-1300/prompt-unit",
        "M0-W-1300/body-size",
        "M0-W-1300/stop-count",
        "M0-W-1300/stop-length",
        "M0-W-1300/max-tokens-reached",
    ),
    source="off by one at the lower limit",
)
def max_tokens_1_refused(value: object) -> bool:
    """max_tokens 1 is refused."""
    return integer(value) and value == 1


@too_strict("M0-W-1300/max-tokens-range", field="max_tokens", source="off by one at the upper limit")
def max_tokens_2048_refused(value: object) -> bool:
    """max_tokens 2048 is refused."""
    return integer(value) and value == 2048


@hole("M0-W-1300/temperature-range", field="temperature", instead=0.0, source="a check of the upper limit only")
def hole_temperature_low(value: object) -> bool:
    """A negative temperature is taken for 0."""
    return number(value) and value < 0


@hole("M0-W-1300/temperature-range", field="temperature", instead=2.0, source="a comparison with a tolerance")
def hole_temperature_high(value: object) -> bool:
    """A temperature just above 2 is accepted: it is compared with a tolerance."""
    return number(value) and 2 < value < 2.00001


@too_strict("M0-W-1300/temperature-range", field="temperature", source="an open interval")
def temperature_2_refused(value: object) -> bool:
    """temperature 2 is refused."""
    return number(value) and value == 2


@hole("M0-W-1300/top-p-range", field="top_p", instead=0.0, source="a parameter that is not validated")
def hole_top_p_low(value: object) -> bool:
    """A negative top_p is accepted."""
    return number(value) and value < 0


@hole("M0-W-1300/top-p-range", field="top_p", instead=1.0, source="a parameter that is not validated")
def hole_top_p_high(value: object) -> bool:
    """A top_p above 1 is accepted."""
    return number(value) and value > 1


@too_strict("M0-W-1300/top-p-range", field="top_p", source="other servers' (0, 1]")
def top_p_0_refused(value: object) -> bool:
    """top_p 0 is refused."""
    return number(value) and value == 0


@too_strict(
    "M0-W-1300/top-p-range", field="top_p", collateral=("M0-W-1300/optional-defaults",), source="a half-open interval"
)
def top_p_1_refused(value: object) -> bool:
    """top_p 1 is refused when it is spelled out."""
    return number(value) and value == 1


@hole("M0-W-1300/top-k-range", field="top_k", instead=0, source="other servers' convention")
def hole_top_k_negative(value: object) -> bool:
    """top_k -1 is taken for off."""
    return integer(value) and value < 0


@hole("M0-W-1300/top-k-range", field="top_k", instead=1, source="a conversion instead of a check")
def hole_top_k_fraction(value: object) -> bool:
    """top_k 1.5 is cut to 1."""
    return isinstance(value, float) and number(value)


@too_strict("M0-W-1300/top-k-range", field="top_k", source="off by one at the lower limit")
def top_k_1_refused(value: object) -> bool:
    """top_k 1 is refused."""
    return integer(value) and value == 1


class TopKVocabulary(Rewrites):
    name = "hole-top-k-vocabulary"
    about = "A top_k above the vocabulary's size is clamped instead of refused."
    kills = ("M0-W-1300/top-k-vocabulary",)
    source = "known defect 17: top_k unbounded"
    size = 0

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if not self.size:
            health = (await proxy.ask(Request("GET", "/health", (), b""))).json()
            self.size = health["vocab_size"]
        return await super().request(request, proxy)

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("top_k")
        return {**job, "top_k": self.size} if integer(asked) and asked > self.size else None


class TopKVocabularyRefused(TopKVocabulary):
    name = "top-k-vocabulary-refused"
    about = "A top_k of the vocabulary's very size is refused."
    kills = ("M0-W-1300/top-k-range",)
    source = "off by one at the upper limit"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        sent = await super().request(request, proxy)
        return refusal("top_k") if is_execute(request) and request.json().get("top_k") == self.size else sent

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return None


@hole(
    "M0-W-1300/repetition-penalty-range",
    field="repetition_penalty",
    instead=0.0,
    source="a parameter that is not validated",
)
def hole_penalty_low(value: object) -> bool:
    """A negative repetition_penalty is accepted."""
    return number(value) and value < 0


@hole(
    "M0-W-1300/repetition-penalty-range",
    field="repetition_penalty",
    instead=2.0,
    source="a parameter that is not validated",
)
def hole_penalty_high(value: object) -> bool:
    """A repetition_penalty above 2 is accepted."""
    return number(value) and value > 2


@too_strict(
    "M0-W-1300/repetition-penalty-range",
    field="repetition_penalty",
    collateral=("M0-W-1421/penalty-zero",),
    source="a guard against the division",
)
def penalty_0_refused(value: object) -> bool:
    """repetition_penalty 0 is refused."""
    return number(value) and value == 0


@hole("M0-W-1300/seed-range", field="seed", instead=3, source="other servers' convention")
def hole_seed_negative(value: object) -> bool:
    """Seed -1 is taken for a random one."""
    return integer(value) and value < 0


@hole("M0-W-1300/seed-range", field="seed", instead=1, source="a conversion instead of a check")
def hole_seed_fraction(value: object) -> bool:
    """Seed 1.5 is cut to 1."""
    return isinstance(value, float) and number(value)


@hole("M0-W-1300/seed-range", field="seed", instead=0, source="unchecked arithmetic on 64 bits")
def hole_seed_2_64(value: object) -> bool:
    """Seed 2^64 wraps around to 0."""
    return integer(value) and value >= 2**64


@too_strict("M0-W-1300/seed-range", field="seed", source="JSON numbers read as doubles")
def seed_above_2_53_refused(value: object) -> bool:
    """Seeds that no double holds are refused."""
    return integer(value) and value > 2**53


@rewrites("M0-W-1300/stop-count", source="a list that is cut")
def hole_stop_count_5(job: dict[str, Any]) -> dict[str, Any] | None:
    """A fifth stop string is dropped instead of refused."""
    stop = job.get("stop")
    return {**job, "stop": stop[:4]} if isinstance(stop, list) and len(stop) > 4 else None


@too_strict("M0-W-1300/stop-count", field="stop", source="off by one")
def stop_count_4_refused(value: object) -> bool:
    """Four stop strings are refused."""
    return isinstance(value, list) and len(value) == 4


@rewrites("M0-W-1300/stop-length", source="known defect 17")
def hole_stop_length(job: dict[str, Any]) -> dict[str, Any] | None:
    """A stop string of hundreds of tokens is dropped instead of refused."""
    stop = job.get("stop")
    if not isinstance(stop, list) or all(len(str(item)) < 200 for item in stop):
        return None
    return {**job, "stop": [item for item in stop if len(str(item)) < 200]}


@too_strict("M0-W-1300/stop-length", field="stop", source="known defect 17: another limit than the spec's")
def stop_length_4_bytes(value: object) -> bool:
    """Stop strings of more than four bytes are refused."""
    return isinstance(value, list) and any(len(str(item)) > 4 for item in value)


@rewrites("M0-W-1300/stop-empty-item", source="a filter instead of a check")
def hole_stop_empty_item(job: dict[str, Any]) -> dict[str, Any] | None:
    """An empty stop string is left out instead of refused."""
    stop = job.get("stop")
    return {**job, "stop": [item for item in stop if item != ""]} if isinstance(stop, list) and "" in stop else None


@too_strict("M0-W-1300/number-spellings", field="temperature", source="a parser that wants a decimal point")
def integer_temperature_refused(value: object) -> bool:
    """A temperature without a decimal point is refused."""
    return integer(value)


@rewrites("M0-W-1300/number-spellings", source="a type test that lets only fractions through")
def integer_temperature_is_default(job: dict[str, Any]) -> dict[str, Any] | None:
    """A temperature without a decimal point counts as left out."""
    legal = integer(job.get("temperature")) and 0 <= job["temperature"] <= 2
    return {name: value for name, value in job.items() if name != "temperature"} if legal else None


@on_request("M0-W-1300/number-spellings", source="a number parser of one's own")
def exponent_refused(request: Request) -> Request | Answer:
    """A number with an exponent is refused."""
    found = is_execute(request) and re.search(rb":\s*-?[0-9.]+[eE]", request.body) and request.json()
    return refusal("temperature") if found and sane(request.json(), "temperature", 0.0, 2.0) else request


@too_strict("M0-W-1300/number-spellings", field="temperature", source="a test of the sign bit")
def negative_zero_refused(value: object) -> bool:
    """A temperature of -0.0 counts as negative."""
    return isinstance(value, float) and value == 0.0 and math.copysign(1.0, value) < 0

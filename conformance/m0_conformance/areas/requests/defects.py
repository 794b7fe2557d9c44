"""Defects of POST /execute's parameters: each limit from both sides, defaults, and the same job in other words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.http import Answer, Request
from m0_conformance.saboteur.lies import Hole, Rewrites, TooStrict, is_execute, number, refusal, whole

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy


class OtherDefault(Rewrites):
    name = "default-temperature"
    about = "Without a temperature, 0.7 is used."
    kills = ("M0-W-1300/optional-defaults",)
    source = "another server's default"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return None if "temperature" in job else {**job, "temperature": 0.7}


class DeadlineObeyed(Defect):
    name = "deadline-obeyed"
    about = "A deadline that has passed, or cannot be read, refuses the job."
    kills = ("M0-W-1300/deadline-header",)
    source = "a feature of a later milestone"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
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


class JobIdEmpty(Hole):
    name = "hole-job-id-empty"
    about = "An empty job_id is accepted."
    kills = ("M0-W-1300/job-id",)
    collateral = ("M0-W-1312/started-job-id",)
    source = "a check for presence only"
    field, instead = "job_id", "unnamed"
    illegal = staticmethod(lambda value: value == "")


class JobIdInvented(Rewrites):
    name = "hole-job-id-missing"
    about = "A missing or null job_id is made up."
    kills = ("M0-W-1300/job-id",)
    source = "an optional field with a default factory"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "job_id": "made-up"} if job.get("job_id") is None else None


class PromptEmpty(Hole):
    name = "hole-prompt-empty"
    about = "An empty prompt is accepted."
    kills = ("M0-W-1300/prompt",)
    source = "a check for presence only"
    field, instead = "prompt", "a"
    illegal = staticmethod(lambda value: value == "")


class PromptNull(Rewrites):
    name = "hole-prompt-missing"
    about = "A missing or null prompt is taken for an empty one and served."
    kills = ("M0-W-1300/prompt",)
    source = "an optional field"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "prompt": "a"} if job.get("prompt") is None else None


class OptionsMandatory(TooStrict):
    name = "max-tokens-mandatory"
    about = "A body without max_tokens is refused."
    kills = ("M0-W-1300/minimal-body",)
    source = "known defect 16"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        job = request.json() if is_execute(request) else {}
        return refusal("max_tokens", "is missing") if job and "max_tokens" not in job else request


class PromptTooLong(Rewrites):
    name = "hole-prompt-32769"
    about = "A prompt of one character too many is cut instead of refused."
    kills = ("M0-W-1300/prompt-max",)
    source = "a buffer that truncates"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        prompt = job.get("prompt")
        long = isinstance(prompt, str) and len(prompt) > 32768
        return {**job, "prompt": str(prompt)[:32768]} if long else None


class PromptOffByOne(TooStrict):
    name = "prompt-32768-refused"
    about = "The longest legal prompt is refused: less-than in the place of at-most."
    kills = ("M0-W-1300/prompt-max", "M0-W-1300/body-size")
    collateral = ("M0-W-1300/prompt-unit",)
    source = "known defect 17: limits that are not the spec's"
    field = "prompt"
    refused = staticmethod(lambda value: isinstance(value, str) and len(value) == 32768)


class PromptInBytes(TooStrict):
    name = "prompt-counted-in-bytes"
    about = "The prompt's limit counts UTF-8 bytes."
    kills = ("M0-W-1300/prompt-unit",)
    source = "known defect 17: lengths counted in bytes"
    field = "prompt"
    refused = staticmethod(lambda value: isinstance(value, str) and len(value.encode("utf-8", "replace")) > 32768)


class PromptInUtf16(TooStrict):
    name = "prompt-counted-in-utf16"
    about = "The prompt's limit counts UTF-16 units."
    kills = ("M0-W-1300/prompt-unit",)
    source = "a language whose strings are UTF-16"
    field = "prompt"
    refused = staticmethod(
        lambda value: isinstance(value, str) and len(value.encode("utf-16-le", "surrogatepass")) > 2 * 32768
    )


class BodyLimit(TooStrict):
    name = "body-limit-150-kb"
    about = "A legal body of more than 150 kB is refused with 413."
    kills = ("M0-W-1300/body-size",)
    source = "a web server's default limit; known defect 15"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        large = is_execute(request) and len(request.body) > 150_000
        return refusal("body", "is too large", status=413) if large else request


class MaxTokensZero(Hole):
    name = "hole-max-tokens-0"
    about = "max_tokens 0 is accepted."
    kills = ("M0-W-1300/max-tokens-range",)
    source = "zero taken for unset"
    field, instead = "max_tokens", 1
    illegal = staticmethod(lambda value: whole(value) and value == 0)


class MaxTokensHigh(Hole):
    name = "hole-max-tokens-2049"
    about = "max_tokens above 2048 is clamped instead of refused."
    kills = ("M0-W-1300/max-tokens-range",)
    source = "upstream's clamp"
    field, instead = "max_tokens", 2048
    illegal = staticmethod(lambda value: whole(value) and 2048 < value < 10**9)


class MaxTokensOneRefused(TooStrict):
    name = "max-tokens-1-refused"
    about = "max_tokens 1 is refused."
    kills = ("M0-W-1300/max-tokens-range",)
    collateral = (  # the checks of other limits ask for one token
        "M0-W-1300/repetition-penalty-range", "M0-W-1300/seed-range", "M0-W-1300/temperature-range",
        "M0-W-1300/top-k-range", "M0-W-1300/top-p-range", "M0-W-1302/names-field", "M0-W-1300/prompt-max",
        "M0-W-1300/prompt-unit", "M0-W-1300/body-size", "M0-W-1300/stop-count", "M0-W-1300/stop-length",
        "M0-W-1300/max-tokens-reached",
    )  # fmt: skip
    source = "off by one at the lower limit"
    field = "max_tokens"
    refused = staticmethod(lambda value: whole(value) and value == 1)


class MaxTokensTopRefused(TooStrict):
    name = "max-tokens-2048-refused"
    about = "max_tokens 2048 is refused."
    kills = ("M0-W-1300/max-tokens-range",)
    source = "off by one at the upper limit"
    field = "max_tokens"
    refused = staticmethod(lambda value: whole(value) and value == 2048)


class TemperatureLow(Hole):
    name = "hole-temperature-low"
    about = "A negative temperature is taken for 0."
    kills = ("M0-W-1300/temperature-range",)
    source = "a check of the upper limit only"
    field, instead = "temperature", 0.0
    illegal = staticmethod(lambda value: number(value) and value < 0)


class TemperatureHigh(Hole):
    name = "hole-temperature-high"
    about = "A temperature just above 2 is accepted: the comparison is made in single precision."
    kills = ("M0-W-1300/temperature-range",)
    source = "2.000000001 rounds to 2 in 32 bits"
    field, instead = "temperature", 2.0
    illegal = staticmethod(lambda value: number(value) and 2 < value < 2.0000001)


class TemperatureTopRefused(TooStrict):
    name = "temperature-2-refused"
    about = "temperature 2 is refused."
    kills = ("M0-W-1300/temperature-range",)
    source = "an open interval"
    field = "temperature"
    refused = staticmethod(lambda value: number(value) and value == 2)


class TopPLow(Hole):
    name = "hole-top-p-low"
    about = "A negative top_p is accepted."
    kills = ("M0-W-1300/top-p-range",)
    source = "a parameter that is not validated"
    field, instead = "top_p", 0.0
    illegal = staticmethod(lambda value: number(value) and value < 0)


class TopPHigh(Hole):
    name = "hole-top-p-high"
    about = "A top_p above 1 is accepted."
    kills = ("M0-W-1300/top-p-range",)
    source = "a parameter that is not validated"
    field, instead = "top_p", 1.0
    illegal = staticmethod(lambda value: number(value) and value > 1)


class TopPZeroRefused(TooStrict):
    name = "top-p-0-refused"
    about = "top_p 0 is refused."
    kills = ("M0-W-1300/top-p-range",)
    source = "other servers' (0, 1]"
    field = "top_p"
    refused = staticmethod(lambda value: number(value) and value == 0)


class TopPOneRefused(TooStrict):
    name = "top-p-1-refused"
    about = "top_p 1 is refused when it is spelled out."
    kills = ("M0-W-1300/top-p-range",)
    collateral = ("M0-W-1300/optional-defaults",)
    source = "a half-open interval"
    field = "top_p"
    refused = staticmethod(lambda value: number(value) and value == 1)


class TopKNegative(Hole):
    name = "hole-top-k-negative"
    about = "top_k -1 is taken for off."
    kills = ("M0-W-1300/top-k-range",)
    source = "other servers' convention"
    field, instead = "top_k", 0
    illegal = staticmethod(lambda value: whole(value) and value < 0)


class TopKFraction(Hole):
    name = "hole-top-k-fraction"
    about = "top_k 1.5 is cut to 1."
    kills = ("M0-W-1300/top-k-range",)
    source = "a conversion in the place of a check"
    field, instead = "top_k", 1
    illegal = staticmethod(lambda value: isinstance(value, float) and number(value))


class TopKOneRefused(TooStrict):
    name = "top-k-1-refused"
    about = "top_k 1 is refused."
    kills = ("M0-W-1300/top-k-range",)
    source = "off by one at the lower limit"
    field = "top_k"
    refused = staticmethod(lambda value: whole(value) and value == 1)


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
        return {**job, "top_k": self.size} if whole(asked) and asked > self.size else None


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


class PenaltyLow(Hole):
    name = "hole-penalty-low"
    about = "A negative repetition_penalty is accepted."
    kills = ("M0-W-1300/repetition-penalty-range",)
    source = "a parameter that is not validated"
    field, instead = "repetition_penalty", 0.0
    illegal = staticmethod(lambda value: number(value) and value < 0)


class PenaltyHigh(Hole):
    name = "hole-penalty-high"
    about = "A repetition_penalty above 2 is accepted."
    kills = ("M0-W-1300/repetition-penalty-range",)
    source = "a parameter that is not validated"
    field, instead = "repetition_penalty", 2.0
    illegal = staticmethod(lambda value: number(value) and value > 2)


class PenaltyZeroRefused(TooStrict):
    name = "penalty-0-refused"
    about = "repetition_penalty 0 is refused."
    kills = ("M0-W-1300/repetition-penalty-range",)
    collateral = ("M0-W-1421/penalty-zero",)
    source = "a guard against the division"
    field = "repetition_penalty"
    refused = staticmethod(lambda value: number(value) and value == 0)


class SeedNegative(Hole):
    name = "hole-seed-negative"
    about = "Seed -1 is taken for a random one."
    kills = ("M0-W-1300/seed-range",)
    source = "other servers' convention"
    field, instead = "seed", 3
    illegal = staticmethod(lambda value: whole(value) and value < 0)


class SeedFraction(Hole):
    name = "hole-seed-fraction"
    about = "Seed 1.5 is cut to 1."
    kills = ("M0-W-1300/seed-range",)
    source = "a conversion in the place of a check"
    field, instead = "seed", 1
    illegal = staticmethod(lambda value: isinstance(value, float) and number(value))


class SeedWraps(Hole):
    name = "hole-seed-2-64"
    about = "Seed 2^64 wraps around to 0."
    kills = ("M0-W-1300/seed-range",)
    source = "unchecked arithmetic on 64 bits"
    field, instead = "seed", 0
    illegal = staticmethod(lambda value: whole(value) and value >= 2**64)


class SeedAsDouble(TooStrict):
    name = "seed-above-2-53-refused"
    about = "Seeds that no double holds are refused."
    kills = ("M0-W-1300/seed-range",)
    source = "JSON numbers read as doubles"
    field = "seed"
    refused = staticmethod(lambda value: whole(value) and value > 2**53)


class FiveStops(Rewrites):
    name = "hole-stop-count-5"
    about = "A fifth stop string is dropped instead of refused."
    kills = ("M0-W-1300/stop-count",)
    source = "a list that is cut"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        stop = job.get("stop")
        return {**job, "stop": stop[:4]} if isinstance(stop, list) and len(stop) > 4 else None


class FourStopsRefused(TooStrict):
    name = "stop-count-4-refused"
    about = "Four stop strings are refused."
    kills = ("M0-W-1300/stop-count",)
    source = "off by one"
    field = "stop"
    refused = staticmethod(lambda value: isinstance(value, list) and len(value) == 4)


class LongStop(Rewrites):
    name = "hole-stop-length"
    about = "A stop string of hundreds of tokens is dropped instead of refused."
    kills = ("M0-W-1300/stop-length",)
    source = "known defect 17"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        stop = job.get("stop")
        if not isinstance(stop, list) or all(len(str(item)) < 200 for item in stop):
            return None
        return {**job, "stop": [item for item in stop if len(str(item)) < 200]}


class ShortStopRefused(TooStrict):
    name = "stop-length-4-bytes"
    about = "Stop strings of more than four bytes are refused."
    kills = ("M0-W-1300/stop-length",)
    source = "known defect 17: another limit than the spec's"
    field = "stop"
    refused = staticmethod(lambda value: isinstance(value, list) and any(len(str(item)) > 4 for item in value))


class EmptyStop(Rewrites):
    name = "hole-stop-empty-item"
    about = "An empty stop string is left out instead of refused."
    kills = ("M0-W-1300/stop-empty-item",)
    source = "a filter in the place of a check"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        stop = job.get("stop")
        return {**job, "stop": [item for item in stop if item != ""]} if isinstance(stop, list) and "" in stop else None

"""Defects of equal jobs give equal tokens, and no job leaves a trace in the next."""

from __future__ import annotations

import secrets
from typing import Any

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, Request, json_answer
from m0_conformance.saboteur.lie import on_event, on_request, rewrites
from m0_conformance.saboteur.lies import OTHER_TEXT, Rewrites, failure, integer, is_execute, job_of, sane


@on_event("M0-W-1800/completes", source="a fixed buffer")
def fiftieth_token_fails(request: Request, event: Event) -> list[Event]:
    """Sampled jobs end with an error when they reach their fiftieth token."""
    job = request.json()
    fails = event.name == "end" and job.get("max_tokens") == 50 and job.get("temperature", 1.0) > 0.0
    return [failure()] if fails else [event]


class EverySecond(Defect):
    name = "every-second-job-differs"
    about = "Of two equal greedy jobs the second says something else."
    kills = ("M0-W-1826/identical-tokens", "M0-SYS-2.3.1/greedy-repeat")
    source = "two buffers, one of them stale"

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def event(self, request: Request, event: Event) -> list[Event]:
        job = request.json()
        if event.name == "started":
            self.jobs.append(job_of(request))
        chosen = job.get("seed") == 42 and job.get("temperature") == 0.0 and len(self.jobs) % 2 == 0
        if event.name == "token" and chosen:
            event.data["t"] = event.data["t"].translate(OTHER_TEXT)
        return [event]


class AfterSampled(Defect):
    name = "sampled-job-leaves-traces"
    about = "The first greedy job after a sampled one begins with another word."
    kills = ("M0-SYS-2.3.1/greedy-repeat",)
    source = "known defect 47; state of the sampler kept between jobs"
    sampled = False

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and event.data["i"] == 0 and self.sampled:
            event.data["t"] = event.data["t"].translate(OTHER_TEXT)
        if event.terminal:
            self.sampled = request.json().get("temperature") != 0.0 and request.json().get("max_tokens") == 9
        return [event]


@rewrites("M0-W-1800/repeats", source="another code path for each kind of temperature")
def fractional_temperature_ignores_seed(job: dict[str, Any]) -> dict[str, Any] | None:
    """Between temperatures 0 and 1 the seed is ignored."""
    between = sane(job, "temperature", 0.001, 0.999) and integer(job.get("seed")) and 0 <= job["seed"] < 2**64
    return {**job, "seed": secrets.randbits(53)} if between else None


class PromptsPileUp(Rewrites):
    name = "cache-not-cleared"
    about = "The cache of the last job is not cleared: the next one still sees its prompt."
    kills = ("M0-SYS-2.3.1/no-leak",)
    source = "known defect 47, blamed on the framework twice"
    last = ""

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        prompt = job.get("prompt")
        if not isinstance(prompt, str) or len(prompt) > 1000:
            return None
        before, self.last = self.last, prompt
        return {**job, "prompt": before + prompt} if prompt else None


@on_request("M0-W-1825/context-overflow", collateral=("M0-W-1302/never-5xx",), source="known defect 48")
def context_overflow_500(request: Request) -> Request | Answer:
    """A job that needs more context than there is, is a server error."""
    long = is_execute(request) and len(str(request.json().get("prompt"))) > 20_000
    return json_answer(500, {"code": "INTERNAL", "message": "out of bounds"}) if long else request


class OverflowPoisons(Rewrites):
    name = "context-overflow-poisons-next"
    about = "After a job that needed too much context, the next one is cut short."
    kills = ("M0-W-1825/recovers",)
    source = "a half-allocated cache left behind"
    poisoned = False

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        if len(str(job.get("prompt"))) > 20_000:
            self.poisoned = True
            return None
        asked = job.get("max_tokens")
        return {**job, "max_tokens": 3} if self.poisoned and integer(asked) and 3 < asked <= 2048 else None

"""Defects of a job from its first to its last token: length, pace, /health meanwhile, one model for life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.lie import on_event, on_events, rewrites
from m0_conformance.saboteur.lies import failure, integer, is_health, number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Answer, Request


@on_events(
    "M0-SYS-6.3.1/incremental",
    collateral=(
        "M0-W-1330/accepts",
        "M0-W-1330/cancelled-event",
        "M0-W-1330/waiting-job",
        "M0-SYS-6.3.5/stops-early",
        "M0-W-1330/within-100ms",
        "M0-W-1320/while-generating",
    ),
    source="known defect 1, which happened twice",
)
async def replay_buffered(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The whole generation is computed first, then all events are sent at once."""
    kept = []
    async for event in events:
        if event.name == "started":
            yield event
        else:
            kept.append(event)
            if event.name == "token":
                await asyncio.sleep(0.002)
    for event in kept:
        yield event


@rewrites("M0-W-1300/max-tokens-default", collateral=("M0-SYS-6.3.1/incremental",), source="another protocol's default")
def default_max_tokens(job: dict[str, Any]) -> dict[str, Any] | None:
    """Without max_tokens, 16 tokens are made."""
    return None if "max_tokens" in job else {**job, "max_tokens": 16}


@rewrites("M0-W-1300/max-tokens-bound", source="at-most instead of less-than")
def one_token_too_many(job: dict[str, Any]) -> dict[str, Any] | None:
    """A job yields one token more than max_tokens."""
    asked = job.get("max_tokens")
    return {**job, "max_tokens": asked + 1} if integer(asked) and 1 <= asked < 2048 else None


@rewrites("M0-W-1300/max-tokens-reached", source="the prompt's last token counted")
def one_token_too_few(job: dict[str, Any]) -> dict[str, Any] | None:
    """A job yields one token less than max_tokens."""
    asked = job.get("max_tokens")
    return {**job, "max_tokens": asked - 1} if integer(asked) and 1 < asked <= 2048 else None


@rewrites("M0-W-1300/max-tokens-prefix", source="a special case for short outputs")
def short_jobs_differ(job: dict[str, Any]) -> dict[str, Any] | None:
    """Jobs of less than ten tokens are answered by another path, and say something else."""
    asked, prompt = job.get("max_tokens"), job.get("prompt")
    short = integer(asked) and 1 <= asked < 10 and number(job.get("temperature")) and isinstance(prompt, str)
    return {**job, "prompt": "#"} if short and prompt else None


class HealthWaits(Defect):
    name = "health-blocked"
    about = "GET /health is answered only between jobs."
    kills = ("M0-W-1320/while-generating",)
    source = "known defect 2: the event loop is blocked during inference"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_health(request) and proxy.running:
            await asyncio.sleep(1.5)
            while proxy.running:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        count = 0
        async for event in events:
            count += 1
            if request.json().get("max_tokens") is None and 2 < count < 100:
                await asyncio.sleep(0.03)  # a generation long enough for a second of silence to be seen
            yield event


@on_event("M0-SYS-6.3.1/valid-job-ends", "M0-W-1800/completes", source="a NaN in one branch of the sampler")
def valid_jobs_fail(request: Request, event: Event) -> list[Event]:
    """Jobs at a temperature between 0 and 1 end with an error."""
    temperature = request.json().get("temperature", 1.0)
    return [failure()] if event.name == "end" and 0.0 < temperature < 1.0 else [event]


@on_event("M0-W-1311/no-tokens", source="an empty result taken for a failure")
def no_tokens_is_an_error(event: Event) -> list[Event]:
    """A job whose model ends at once is ended by an error."""
    return [failure("no output")] if event.name == "end" and event.data.get("tokens_out") == 0 else [event]


class ModelChanges(Defect):
    name = "model-name-changes"
    about = "After some jobs the worker names another model."
    kills = ("M0-W-1001/model-constant",)
    collateral = ("M0-W-1312/started-model",)
    source = "a name that is put together anew for each answer"
    jobs = 0

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "started":
            self.jobs += 1
            event.data["model"] += "-b" if self.jobs % 2 == 0 else ""
        return [event]

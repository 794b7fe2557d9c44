"""Defects of stop strings: where the text ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.lie import on_event, on_events, rewrites
from m0_conformance.saboteur.lies import Rewrites, job_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Request


@rewrites(
    "M0-W-1422/stops", "M0-W-1422/earliest-of-four", collateral=("M0-W-1422/across-tokens",), source="known defect 22"
)
def stop_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """Stop strings are accepted and never looked for."""
    stop = job.get("stop")
    return {**job, "stop": []} if isinstance(stop, list) and 0 < len(stop) <= 4 and all(stop) else None


@on_event(
    "M0-W-1422/stops",
    "M0-W-1422/earliest-of-four",
    collateral=("M0-W-1422/across-tokens",),
    source="vLLM #3574; TGI #1254; SwiftLM #126",
)
def stop_leak(request: Request, event: Event) -> list[Event]:
    """After the stop string one more token is sent."""
    job = request.json()
    told = event.data.get("tokens_out")
    if event.name != "end" or not job.get("stop") or told == job.get("max_tokens"):
        return [event]
    event.data["tokens_out"] += 1
    longest = max(map(len, job["stop"]))
    return [Event("token", {"t": " more text" + "!" * longest, "i": told}), event]


class StopInOneToken(Rewrites):
    name = "stop-miss-cross-token"
    about = "A stop string is found only where one token's text holds all of it."
    kills = ("M0-W-1422/across-tokens",)
    source = "SwiftLM #133; mlx-knife #68; sglang #11462"

    def __init__(self) -> None:
        self.stops: dict[str, list[str]] = {}

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        stop = job.get("stop")
        if not isinstance(stop, list) or not 0 < len(stop) <= 4 or not all(isinstance(s, str) and s for s in stop):
            return None
        self.stops[str(job.get("job_id"))] = stop
        return {**job, "stop": []}

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        stops = self.stops.get(job_of(request), [])
        count = 0
        async for event in events:
            found = [place for stop in stops if (place := str(event.data.get("t", "")).find(stop)) >= 0]
            if event.name == "token" and found:
                event.data["t"] = event.data["t"][: min(found)]
                yield event
                yield Event("end", {"tokens_out": count + 1, "decode_time_ms": 1})
                return
            count += event.name == "token"
            yield event


@on_events("M0-W-1422/keeps-prefix", source="SwiftLM #126; text held back and thrown away")
async def stop_overcut(request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The token before the stop string is cut away with it."""
    job = request.json()
    held: list[Event] = []
    async for event in events:
        if event.name == "token":
            held.append(event)
            if len(held) > 4:
                yield held.pop(0)
            continue
        if event.name == "end" and job.get("stop") and event.data["tokens_out"] != job.get("max_tokens"):
            spoken = [token for token in held if token.data["t"].strip()]
            for token in spoken[-1:]:
                token.data["t"] = ""
        for token in held:
            yield token
        held = []
        yield event


@rewrites("M0-W-1422/earliest-of-four", source="known defect 22: a list handed over as one value")
def stop_first_of_list(job: dict[str, Any]) -> dict[str, Any] | None:
    """Only the first stop string of the list is looked for."""
    stop = job.get("stop")
    return {**job, "stop": stop[:1]} if isinstance(stop, list) and 1 < len(stop) <= 4 and all(stop) else None


@rewrites("M0-W-1422/absent-string", source="a search over prompt and text together")
def stop_in_prompt(job: dict[str, Any]) -> dict[str, Any] | None:
    """A stop string that the prompt contains ends the job at once."""
    stop, prompt = job.get("stop"), job.get("prompt")
    legal = isinstance(stop, list) and isinstance(prompt, str) and 0 < len(stop) <= 4 and all(stop)
    found = legal and any(isinstance(item, str) and item in str(prompt) for item in stop or [])
    return {**job, "max_tokens": 1, "stop": []} if found else None

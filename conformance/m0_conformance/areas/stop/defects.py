"""Defects of stop strings: where the text ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.lie import on_event, on_events, rewrites
from m0_conformance.saboteur.lies import Rewrites, job_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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
    collateral=("M0-W-1422/across-tokens", "M0-W-1422/absent-string"),
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
    collateral = ("M0-W-1422/earliest-of-four",)
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


@on_events(
    "M0-W-1422/keeps-prefix",
    collateral=("M0-W-1422/absent-string",),
    source="SwiftLM #126; text held back and thrown away",
)
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


@rewrites("M0-W-1422/across-tokens", source="a comparison in a buffer of fixed size")
def stop_longer_than_12_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """Stop strings of more than twelve characters are never found."""
    return _only(job, lambda stop: len(stop) <= 12)


@rewrites(
    "M0-W-1422/across-tokens",
    collateral=("M0-W-1422/earliest-of-four",),
    source="a comparison of bytes with characters",
)
def stop_beyond_ascii_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """Stop strings with letters outside ASCII are never found."""
    return _only(job, str.isascii)


@rewrites(
    "M0-W-1422/across-tokens",
    collateral=("M0-W-1422/earliest-of-four", "M0-W-1422/stops"),
    source="a second path for drawn tokens",
)
def stop_ignored_when_drawn(job: dict[str, Any]) -> dict[str, Any] | None:
    """Stop strings end greedy jobs only."""
    return _only(job, lambda _: job.get("temperature", 1.0) == 0.0)


@rewrites("M0-W-1422/absent-string", source="strings that are trimmed like other fields")
def stop_trimmed(job: dict[str, Any]) -> dict[str, Any] | None:
    """Spaces around a stop string are dropped."""
    trimmed = [stop.strip() for stop in _stops(job)]
    return {**job, "stop": trimmed} if all(trimmed) and trimmed != _stops(job) else None


def _stops(job: dict[str, Any]) -> list[str]:
    """The legal stop strings of a job; none where the list is no legal one."""
    stop = job.get("stop")
    legal = isinstance(stop, list) and len(stop) <= 4 and all(isinstance(item, str) and item for item in stop)
    return stop if legal and isinstance(stop, list) else []


def _only(job: dict[str, Any], found: Callable[[str], bool]) -> dict[str, Any] | None:
    """The job with those stop strings only that this worker finds."""
    stops = _stops(job)
    kept = [stop for stop in stops if found(stop)]
    return {**job, "stop": kept} if kept != stops else None


class Searches(Rewrites):
    """Looks for stop strings itself, in the text so far, after each token."""

    def __init__(self) -> None:
        self.stops: dict[str, list[str]] = {}

    def find(self, text: str, first: int, tokens: int, stops: list[str]) -> int:
        """Where the first match begins, -1 for none; `first` is the length of the first token, `tokens` their count."""
        raise NotImplementedError

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        if not (stops := _stops(job)):
            return None
        self.stops[str(job.get("job_id"))] = stops
        return {**job, "stop": []}

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        stops, text, tokens, first = self.stops.get(job_of(request), []), "", 0, 0
        async for event in events:
            if event.name == "token" and stops:
                sent, tokens = len(text), tokens + 1
                text += event.data["t"]
                first = first or len(text)
                at = self.find(text, first, tokens, stops)
                if at >= 0:
                    event.data["t"] = text[sent : max(sent, at)]
                    yield event
                    yield Event("end", {"tokens_out": tokens, "decode_time_ms": 1})
                    return
            yield event


def _first(text: str, stops: list[str]) -> int:
    """Where the earliest of them begins; -1 for none."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=-1)


class StopAfterFirstToken(Searches):
    name = "stop-not-in-first-token"
    about = "The search for stop strings begins with the second token."
    kills = ("M0-W-1422/across-tokens",)
    collateral = ("M0-W-1422/stops",)
    source = "a loop that compares before it appends"

    def find(self, text: str, first: int, tokens: int, stops: list[str]) -> int:
        at = _first(text[first:], stops)
        return at if at < 0 else at + first


class StopNearBeginning(Searches):
    name = "stop-within-64-tokens"
    about = "Stop strings are looked for in the first 64 tokens only."
    kills = ("M0-W-1422/stops", "M0-W-1422/across-tokens")
    source = "a ring of fixed size"

    def find(self, text: str, first: int, tokens: int, stops: list[str]) -> int:
        return _first(text, stops) if tokens <= 64 else -1


class StopAnyCase(Searches):
    name = "stop-any-case"
    about = "Stop strings are compared without regard to case."
    kills = ("M0-W-1422/absent-string",)
    source = "a comparison meant for header names"

    def find(self, text: str, first: int, tokens: int, stops: list[str]) -> int:
        return _first(text.lower(), [stop.lower() for stop in stops])


class StopAsPattern(Searches):
    name = "stop-as-pattern"
    about = "Stop strings are taken for regular expressions."
    kills = ("M0-W-1422/absent-string",)
    source = "a library's search function that takes patterns"

    def find(self, text: str, first: int, tokens: int, stops: list[str]) -> int:
        places = (match.start() for stop in stops if (match := _pattern(stop).search(text)) is not None)
        return min(places, default=-1)


def _pattern(stop: str) -> re.Pattern[str]:
    try:
        return re.compile(stop)
    except re.error:
        return re.compile(re.escape(stop))


class StopWithoutBackingUp(Searches):
    name = "stop-without-backing-up"
    about = "A match that fails begins anew at the next character, so that a doubled beginning hides the stop string."
    kills = ("M0-W-1422/across-tokens",)
    source = "a matcher that keeps one position"

    def find(self, text: str, first: int, tokens: int, stops: list[str]) -> int:
        for stop in stops:
            matched = 0
            for at, letter in enumerate(text):
                matched = matched + 1 if letter == stop[matched] else 0
                if matched == len(stop):
                    return at + 1 - matched
        return -1


@on_events(
    "M0-W-1422/absent-string",
    collateral=("M0-W-1422/keeps-prefix",),
    source="text held back and never let go",
)
async def stop_beginning_swallowed(request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Text at the end that could have begun a stop string is never sent."""
    stops, held = _stops(request.json()), None
    async for event in events:
        if event.name == "token" and stops:
            if held is not None:
                yield held
            held = event
            continue
        if held is not None:
            said = held.data["t"]
            if event.name == "end" and event.data["tokens_out"] != request.json().get("max_tokens"):
                begun = next((i for i in range(len(said)) if any(s.startswith(said[i:]) for s in stops)), len(said))
                held.data["t"] = said[:begun]
            yield held
            held = None
        yield event

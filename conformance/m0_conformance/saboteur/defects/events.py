"""Which events come, in which order, how many, and when the stream ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Defect, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.http import Request
    from m0_conformance.saboteur.proxy import Proxy


class NoTerminal(Defect):
    name = "no-terminal"
    about = "The stream ends without end or error."
    kills = ("M0-W-1311/one-terminal",)
    source = "known defect 5; lemonade #3448, any-llm #847, litellm #32159"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [] if event.terminal else [event]


class TwoTerminals(Defect):
    name = "two-terminals"
    about = "After end comes a second end."
    kills = ("M0-W-1311/one-terminal",)
    source = "mistral.rs #1874"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, event] if event.name == "end" else [event]


class NoStarted(Defect):
    name = "no-started"
    about = "The stream begins with the first token."
    kills = ("M0-W-1311/started-first",)
    source = "known defect 7"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [] if event.name == "started" else [event]


class StartedTwice(Defect):
    name = "started-twice"
    about = "started is sent again before the first token."
    kills = ("M0-W-1311/started-once",)
    source = "a retry inside the worker that begins the stream anew"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, event] if event.name == "started" else [event]


class StartedLate(Defect):
    name = "started-late"
    about = "started comes after the first token."
    kills = ("M0-W-1311/started-first",)
    source = "M0-W-1311's order, broken by a task that announces the job concurrently"

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        held: list[Event] = []
        async for event in events:
            if event.name == "started":
                held.append(event)
                continue
            yield event
            for late in held:
                yield late
            held.clear()


class TokenAfterEnd(Defect):
    name = "token-after-end"
    about = "A last token comes after end."
    kills = ("M0-W-1311/nothing-after-terminal",)
    source = "a producer and a finisher that race"

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        last: Event | None = None
        async for event in events:
            if event.name == "token":
                if last is not None:
                    yield last
                last = event
                continue
            yield event
            if event.terminal and last is not None:
                yield last
                last = None


class DoneAfterEnd(Defect):
    name = "done-after-end"
    about = "A literal [DONE] without an event line follows the terminal event."
    kills = ("M0-W-1310/event-line",)
    collateral = ("M0-W-1311/nothing-after-terminal", "M0-W-1310/event-names", "M0-W-1312/json-object")
    source = "dialect D of upstream's successor; the habit of another protocol"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, Event("", {}, b"data: [DONE]\n\n")] if event.terminal else [event]


class MetricsAfterEnd(Defect):
    name = "metrics-after-end"
    about = "A metrics event with the job's totals follows its terminal event."
    kills = ("M0-W-1311/nothing-after-terminal",)
    source = "a summary that is sent when everything is over"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event, Event("metrics", {"total_ms": 12})] if event.terminal else [event]


class NeverCloses(Defect):
    name = "never-closes"
    about = "Every fourth connection stays open after the terminal event."
    kills = ("M0-W-1311/stream-closes",)
    source = "known defect 6: a receiver whose sender is kept alive"
    streams = 0

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        self.streams += 1
        if self.streams % 4 == 0:
            await asyncio.sleep(20)


class UnknownEvent(Defect):
    name = "unknown-event"
    about = "An event of a type that M0 does not have comes before each token."
    kills = ("M0-W-1310/event-names",)
    source = "planned narration events of dialect F"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [Event("narration", {"human": "thinking"}), event] if event.name == "token" else [event]


class OnlyJsonType(Defect):
    name = "only-json-type"
    about = "The type stands in the JSON only, the event: lines are gone."
    kills = ("M0-W-1310/event-line",)
    source = "known defect 8: dropped in a refactor"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [Event("", {"type": event.name, **event.data})]


class NoTokens(Defect):
    name = "no-token-events"
    about = "All text comes in end, no token event is sent."
    kills = ("M0-W-1312/end-tokens-out",)
    collateral = (
        "M0-W-1420/next-token", "M0-W-1362/text-exact", "M0-W-1800/completes", "M0-SYS-6.3.1/incremental",
        "M0-W-1330/accepts", "M0-W-1300/max-tokens-reached",
    )  # fmt: skip
    source = "a buffered answer behind a streaming interface"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [] if event.name == "token" else [event]


class ReplayBuffered(Defect):
    name = "replay-buffered"
    about = "The whole generation is computed first, then all events are sent at once."
    kills = ("M0-SYS-6.3.1/incremental",)
    collateral = (
        "M0-W-1330/accepts", "M0-W-1330/cancelled-event", "M0-W-1330/waiting-job", "M0-SYS-6.3.5/stops-early",
        "M0-W-1330/within-100ms", "M0-W-1320/while-generating",
    )  # fmt: skip
    source = "known defect 1, which happened twice"

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
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


class ErrorAsEnd(Defect):
    name = "error-as-end"
    about = "A failed or cancelled job ends with end, as if it had gone well."
    kills = ("M0-W-1330/cancelled-event",)
    collateral = (
        "M0-W-1312/end-fields",
        "M0-W-1312/end-tokens-out",
        "M0-W-1312/end-decode-time",
        "M0-W-1330/waiting-job",
    )
    source = "known defect 5: an error swallowed so that the stream looks finished"

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}

    def event(self, request: Request, event: Event) -> list[Event]:
        job = str(request.json().get("job_id"))
        if event.name == "token":
            self.tokens[job] = self.tokens.get(job, 0) + 1
        if event.name != "error":
            return [event]
        return [Event("end", {"tokens_out": self.tokens.get(job, 0), "decode_time_ms": 1, "stop_reason": "CANCELLED"})]

"""Oddities of what is said: fields that may be written in several ways, log lines, pace."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.http import Answer, json_answer
from m0_conformance.saboteur.lie import lie
from m0_conformance.saboteur.lies import is_cancel, is_health
from m0_conformance.saboteur.narration import Narration
from m0_conformance.saboteur.oddities_of_answers import TakesTime
from m0_conformance.saboteur.oddity import HEALTH, MEETINGS, REQUESTS, STREAMS, Oddity, odd_answer, odd_event

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Event, Proxy
    from m0_conformance.saboteur.http import Request

LOGS = ("M0-W-1900/execute-start", "M0-W-1900/execute-end", "M0-W-1900/shutdown", "M0-W-1110/event-order")

# ---- events and answers -------------------------------------------------------------------------------------------


@odd_event()
def odd_stop_reason_words(event: Event) -> list[Event]:
    """end tells its reason in words of its own."""
    if event.name == "end":
        event.data["stop_reason"] = str(event.data.get("stop_reason")).lower().replace("_", "-")
    return [event]


@odd_event(watch=(*STREAMS, "M0-W-1330/within-100ms", "M0-W-1330/waiting-job"))
def odd_error_details(event: Event) -> list[Event]:
    """Error events say where in the worker it happened."""
    if event.name == "error":
        event.data |= {"details": {"layer": None, "stage": "decode"}, "message": f"{event.data['message']} ✗"}
    return [event]


class OtherName(Oddity):
    name = "odd-model-name"
    about = "The model is called by a name with spaces and letters outside ASCII."
    watch = (*HEALTH, "M0-W-1312/started-model", "M0-SYS-2.3.1/after-restart")
    called = "Modèle 7B (été, v2)"

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "started":
            event.data["model"] = self.called
        return [event]

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "model": self.called}


@odd_answer(watch=REQUESTS)
def odd_refusal_lists_more(answer: Answer) -> Answer:
    """Refusals list a hint beside the field that is wrong."""
    if answer.head.status == 400 and isinstance(body := answer.json(), dict) and "errors" in body:
        hint = {"field": "", "constraint": "documentation", "message": "see the manual"}
        return json_answer(400, {**body, "errors": [*body["errors"], hint]})
    return answer


@odd_answer(watch=MEETINGS)
def odd_cancel_details(request: Request, answer: Answer) -> Answer:
    """A cancel is answered with the job's id, the time and the length of the line."""
    if is_cancel(request) and answer.head.status == 202:
        return json_answer(202, {"job_id": request.json()["job_id"], "waiting": 0, "at": "2026-01-01T00:00:00Z"})
    return answer


# ---- pace ---------------------------------------------------------------------------------------------------------


class SlowAnswers(Oddity):
    name = "odd-slow-answers"
    about = "/health and /cancel take 25 ms to be answered."
    watch = (*HEALTH, "M0-W-1330/idempotent", "M0-W-1320/while-generating")

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if is_health(request) or is_cancel(request):
            await asyncio.sleep(0.025)
        return answer


class Jitter(TakesTime):
    name = "odd-jitter"
    about = "Tokens come now at once, now 30 ms apart."
    watch = ("M0-W-1300/max-tokens-bound", "M0-SYS-2.3.1/greedy-repeat", "M0-W-1330/idempotent")

    async def pause(self, event: Event) -> None:
        if event.name == "token" and event.data["i"] % 7 == 3:
            await asyncio.sleep(0.03)


class LateEnd(TakesTime):
    name = "odd-late-end"
    about = "The terminal event comes 150 ms after the last token."
    watch = ("M0-SYS-2.3.1/greedy-repeat", "M0-W-1311/no-tokens", "M0-W-1362/text-exact")

    async def pause(self, event: Event) -> None:
        if event.name == "end":
            await asyncio.sleep(0.15)


# ---- log lines ----------------------------------------------------------------------------------------------------


class OddLog(Narration, Oddity):
    """Logs in its own way."""

    watch = LOGS


odd_log = lie("narrate", OddLog)


class Noise(OddLog):
    name = "odd-log-noise"
    about = "Banners, blank lines, numbers and broken JSON stand between the events."

    def line(self, stream: str, text: str) -> list[str]:
        return ["", "=== m0 ===", *super().line(stream, text), "17", "[1, 2]", '{"event": ', "\x1b[32mok\x1b[0m"]


@odd_log()
def odd_log_more_events(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Events that M0 does not know are logged beside its own."""
    return [event, {**event, "event": "span", "of": event["event"], "ms": 0.25}]


@odd_log()
def odd_log_fields(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Events carry time, level and place, in another order."""
    return [{"ts": 1.5e9, "level": "info", "target": "m0::worker", **dict(reversed(event.items())), "thread": None}]


class LogForm(OddLog):
    name = "odd-log-form"
    about = "Log events are compact JSON with escapes."

    def line(self, stream: str, text: str) -> list[str]:
        return [
            json.dumps(json.loads(line), separators=(",", ":")).replace("/", "\\/") if line.startswith("{") else line
            for line in super().line(stream, text)
        ]

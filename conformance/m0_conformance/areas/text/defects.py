"""Defects of token bytes become text: characters, end of sequence, any prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.lie import on_event, on_events, on_request
from m0_conformance.saboteur.lies import AND_BACK, OTHER_TEXT, Rewrites, failure, integer, is_execute, job_of, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.http import Answer, Request


REPLACEMENT = "\ufffd"


def replaced(text: str) -> str:
    """What a decoder that looks at each token alone makes of it."""
    return "".join(letter if letter.isascii() else REPLACEMENT for letter in text) or REPLACEMENT


@on_event(
    "M0-W-1362/holds-incomplete",
    collateral=("M0-W-1362/text-exact", "M0-W-1362/unfinished-at-end", "M0-W-1824/no-replacement"),
    source="known defect 33; llama.cpp #4036, #28926; vllm-mlx #109; Lucebox #641; qwisp #134",
)
def utf8_split_token(event: Event) -> list[Event]:
    """Each token is decoded alone: characters of several tokens become replacement characters."""
    if event.name == "token":
        event.data["t"] = replaced(event.data["t"])
    return [event]


@on_event("M0-W-1824/no-replacement", source="known defect 33, in one of two copies of the loop")
def utf8_split_when_sampled(request: Request, event: Event) -> list[Event]:
    """On the sampled path each token is decoded alone."""
    if event.name == "token" and request.json().get("temperature", 1.0) > 0.0:
        event.data["t"] = replaced(event.data["t"])
    return [event]


class InvalidByteBlocks(Defect):
    name = "invalid-byte-blocks"
    about = "After a byte that can never become a character nothing more is shown."
    kills = ("M0-W-1362/invalid-byte",)
    source = "known defect 33: one invalid byte blocks all later output"

    def __init__(self) -> None:
        self.blocked: set[str] = set()

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token":
            if REPLACEMENT in event.data["t"]:
                self.blocked.add(job_of(request))
            if job_of(request) in self.blocked:
                event.data["t"] = ""
        return [event]


@on_events(
    "M0-W-1362/unfinished-at-end", collateral=("M0-W-1362/text-exact",), source="a flush that decodes with replacement"
)
async def unfinished_character_shown(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """A character that the job's end cuts in two is shown as a question mark."""
    held: Event | None = None
    async for event in events:
        if held is not None:
            if event.name == "end" and held.name == "token" and held.data["t"] == "":
                held.data["t"] = "?"
            yield held
        held = event
    if held is not None:
        yield held


@on_events("M0-W-1362/text-exact", collateral=("M0-W-1362/eos-silent",), source="known defect 30")
async def last_piece_lost(request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Where max_tokens ends a job, its last piece of text is never sent: the streaming decoder withholds it."""
    held: Event | None = None
    async for event in events:
        if held is not None:
            cut = event.name == "end" and event.data.get("tokens_out") == request.json().get("max_tokens")
            if cut and held.name == "token":
                held.data["t"] = ""
            yield held
        held = event
    if held is not None:
        yield held


@on_event(
    "M0-W-1362/text-exact",
    collateral=("M0-W-1420/next-token",),
    source="known defect 30: an earlier version lost spaces",
)
def spaces_lost(event: Event) -> list[Event]:
    """Spaces at the beginning of tokens are lost."""
    if event.name == "token":
        event.data["t"] = event.data["t"].lstrip(" ")
    return [event]


@on_event(
    "M0-W-1362/no-internal-alphabet",
    collateral=("M0-W-1362/text-exact", "M0-W-1420/next-token"),
    source="known defect 32",
)
def internal_alphabet(event: Event) -> list[Event]:
    """Spaces are shown as U+0120, the way the vocabulary writes them."""
    if event.name == "token":
        event.data["t"] = event.data["t"].replace(" ", "\u0120")
    return [event]


@on_event("M0-W-1362/any-prompt", source="known defect 29")
def question_mark_fails(request: Request, event: Event) -> list[Event]:
    """A prompt with a question mark ends with an error."""
    return [failure("unknown token")] if event.name == "end" and "?" in request.json()["prompt"] else [event]


@on_request("M0-W-1362/any-prompt", source="known defect 34")
def tab_refused(request: Request) -> Request | Answer:
    """A prompt with a tab is refused: its byte is not in the vocabulary."""
    tab = is_execute(request) and "\t" in str(request.json().get("prompt"))
    return refusal("prompt", "holds an unknown token") if tab else request


class OtherWords(Rewrites):
    name = "wrong-next-token"
    about = "Where the model says one word the worker says another."
    kills = ("M0-W-1420/next-token", "M0-W-1362/text-exact")
    collateral = ("M0-W-1362/invalid-byte",)
    source = "known defects 28, 39 and 46: wrong numbers"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """It finds its own words where they are to stop it."""
        stop = job.get("stop")
        if job.get("temperature") != 0.0 or not isinstance(stop, list) or not all(isinstance(s, str) for s in stop):
            return None
        return {**job, "stop": [item.translate(AND_BACK) for item in stop]}

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and request.json().get("temperature") == 0.0:
            event.data["t"] = event.data["t"].translate(OTHER_TEXT)
        return [event]


@on_event(
    "M0-W-1362/eos-ends",
    collateral=("M0-W-1311/no-tokens", "M0-W-1362/unfinished-at-end"),
    source="known defect 23: a wrong fallback id",
)
def end_of_sequence_ignored(request: Request, event: Event) -> list[Event]:
    """The job goes on after the end-of-sequence token, up to max_tokens."""
    job = request.json()
    asked, told = job.get("max_tokens"), event.data.get("tokens_out")
    if event.name != "end" or job.get("stop") or not integer(asked):
        return [event]
    event.data["tokens_out"] = asked
    more = [Event("token", {"t": " on", "i": index}) for index in range(told or 0, asked)]
    return [*more, event]


@on_event(
    "M0-W-1362/eos-silent",
    collateral=("M0-W-1311/no-tokens", "M0-W-1362/unfinished-at-end"),
    source="known defect 36; special tokens decoded like others",
)
def end_of_sequence_shown(request: Request, event: Event) -> list[Event]:
    """The end-of-sequence token is sent as text."""
    job = request.json()
    told = event.data.get("tokens_out")
    if event.name != "end" or job.get("stop") or not integer(job.get("max_tokens")) or told == job["max_tokens"]:
        return [event]
    event.data["tokens_out"] += 1
    return [Event("token", {"t": "</s>", "i": told}), event]

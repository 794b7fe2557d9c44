"""What early workers are like as a whole: lies about everything at once, which personas are put together from.

A trait turns several clauses red, more or fewer with what stands beside it; what a whole worker breaks stands with the
persona (`personas.toml`).
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
from m0_models.bytelevel import spell

from m0_conformance.saboteur.defect import Defect, Event, Exit
from m0_conformance.saboteur.http import Answer, Head, Request, json_answer, text_answer
from m0_conformance.saboteur.launching import given, replaced, without
from m0_conformance.saboteur.lies import integer, is_cancel, is_execute, is_health, job_of, number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy

TYPES: dict[str, Any] = {
    "job_id": str, "prompt": str, "max_tokens": int, "temperature": (int, float), "top_p": (int, float), "top_k": int,
    "repetition_penalty": (int, float), "min_p": (int, float), "stop": list, "seed": int,
}  # fmt: skip
RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 2048), "temperature": (0, 2), "top_p": (0, 1), "repetition_penalty": (0, 2),
}  # fmt: skip


class Trait(Defect):
    """Has no name of its own and so no place in the catalogue; personas call it by its class."""


# ---- when things are sent -----------------------------------------------------------------------------------------


class AllAtTheEnd(Trait):
    """Nothing of a stream is sent, not even its head, before the job is over."""

    holds_head = True

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        for event in [event async for event in events]:
            yield event


class Buffered(AllAtTheEnd):
    """The same by a proxy in front: a cancel reaches the worker behind it, whose job ends there."""

    def __init__(self) -> None:
        self.cancelled: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_cancel(request):
            self.cancelled.add(job_of(request))
        return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        """The real worker may be ahead of what is read here, so a cancelled job ends here."""
        kept: list[Event] = []
        async for event in events:
            if job_of(request) in self.cancelled and event.name in {"token", "end"}:
                words = {"code": "CANCELLED", "message": "the job was cancelled", "retriable": False}
                kept.append(Event("error", words))
                break
            kept.append(event)
        for event in kept:
            yield event


class OneThread(Trait):
    """While a job runs nothing else is answered: the whole process stands still."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_execute(request):
            return request
        async with self.turn:
            return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        async with self.turn:
            async for event in events:
                yield event


class Paced(Trait):
    """A token takes its time."""

    token_s: ClassVar[float] = 0.0
    load_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self.cancelled: set[str] = set()
        self.turn = asyncio.Lock()
        self.told = False
        self.limit_s = math.inf

    async def arguments(self, argv: list[str]) -> list[str]:
        """Its time is the one that a limit counts, not the real worker's."""
        if (limit := given(argv, "--inference-timeout-sec")) is not None:
            self.limit_s = float(limit)
        return without(argv, "--inference-timeout-sec")

    async def ready(self, proxy: Proxy) -> None:
        await asyncio.sleep(self.load_s)

    async def signal(self, number: int, proxy: Proxy) -> bool:
        """The real worker is told when the job that seems to run is over."""
        self.told = True
        async with self.turn:
            return True

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if is_cancel(request):
            self.cancelled.add(job_of(request))
        if is_execute(request) and self.told:
            return json_answer(503, {"code": "INTERNAL", "message": "shutting down", "retriable": True})
        return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        """The real worker is ahead, so a second job waits for its turn here, and a cancelled one ends here."""
        job = job_of(request)
        self.cancelled.discard(job)
        async with self.turn:
            clock = asyncio.get_running_loop().time
            tokens, begun = 0, clock()
            async for event in events:
                over = "CANCELLED" if job in self.cancelled else ""
                if clock() - begun > self.limit_s:
                    over = "INFERENCE_TIMEOUT"
                if over and event.name == "token":
                    yield Event("error", {"code": over, "message": "the job was ended", "retriable": False})
                    return
                if event.name == "token":
                    tokens += 1
                    await asyncio.sleep(max(0.0, begun + tokens * self.token_s - clock()))
                if event.name == "end":
                    event.data["decode_time_ms"] = int((clock() - begun) * 1000)
                yield event


class TwentyFiveTokensASecond(Paced):
    """A small machine with a real model on it."""

    token_s = 0.04


class SeventyTokensASecond(Paced):
    """A model of 1.2 GB, which takes its time to load."""

    token_s = 1 / 70
    load_s = 2.4


# ---- routes and refusals ------------------------------------------------------------------------------------------


class NoCancel(Trait):
    """There is no /cancel."""

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        return Answer(Head(404)) if request.path == "/cancel" else request


class MaxTokensRequired(Trait):
    """A body without max_tokens is refused, as one without a prompt is."""

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        missing = is_execute(request) and request.json() and "max_tokens" not in request.json()
        return self.refuse() if missing else request

    def refuse(self) -> Answer:
        """In a framework's words."""
        return text_answer(422, "Failed to deserialize the JSON body into the target type: missing field `max_tokens`")


def mistyped(job: dict[str, Any]) -> str | None:
    """The first field that is missing or of another JSON type."""
    for name in ("job_id", "prompt"):
        if job.get(name) is None:
            return name
    for name, kind in TYPES.items():
        value = job.get(name)
        wrong = isinstance(value, bool) or not isinstance(value, kind)
        if value is not None and (wrong or (name == "stop" and not all(isinstance(item, str) for item in value))):
            return name
        if name in {"top_k", "seed", "max_tokens"} and integer(value) and not 0 <= value < 2**64:
            return name
    return None


def out_of_range(job: dict[str, Any]) -> str | None:
    """The first field out of its range, by single precision."""
    for name, (low, high) in RANGES.items():
        value = job.get(name)
        if number(value) and not low - 1e-7 <= value <= high * (1 + 1e-7):
            return name
    return None


class FrameworkErrors(Trait):
    """A Rust framework's own answers: text for bodies it cannot read, a list of errors for what is out of range."""

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if not is_execute(request) or answer.head.status not in {400, 413, 415, 422}:
            return answer
        kind = next((value for name, value in request.headers if name.lower() == "content-type"), "")
        if not kind.lower().startswith("application/json"):
            return text_answer(415, "Expected request with `Content-Type: application/json`")
        if not request.json():
            return text_answer(400, "Failed to parse the request body as JSON: expected value at line 1 column 1")
        if (field := mistyped(request.json())) is not None:
            words = f"Failed to deserialize the JSON body into the target type: {field}: invalid type at line 1"
            return text_answer(422, words)
        error = answer.json() if isinstance(answer.json(), dict) else {}
        fields = error.get("errors") or [{"field": "request", "constraint": "valid", "message": "is not valid"}]
        return json_answer(400, {"errors": fields})


class DetailErrors(Trait):
    """A Python framework's own answers: 422 and a list of details for whatever it does not like."""

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if not is_execute(request) or answer.head.status != 400:
            return answer
        field = mistyped(request.json()) or out_of_range(request.json()) or ""
        detail = [{"type": "value_error", "loc": ["body", field], "msg": "Input should be valid", "input": None}]
        return json_answer(422, {"detail": detail})


class PlainErrors(Trait):
    """A Go server's own answers: a line of text and status 400."""

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        refused = is_execute(request) and answer.head.status == 400
        return text_answer(400, "bad request: json: cannot unmarshal value\n") if refused else answer


class BareHealth(Trait):
    """/health says that it is healthy, and how many bytes of memory it does not use."""

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"status": "healthy", "vram_bytes": 0}


class OkHealth(Trait):
    """/health is the word ok."""

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        return text_answer(200, "ok") if is_health(request) and answer.head.status == 200 else answer


class Token(Trait):
    """Every route but /health wants a bearer token."""

    wanted: ClassVar[str] = "Bearer persona-token"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        given = next((value for name, value in request.headers if name.lower() == "authorization"), "")
        if request.path == "/health" or given == self.wanted:
            return request
        error = {"code": "INVALID_API_KEY" if given else "MISSING_API_KEY", "message": "a bearer token is needed"}
        return json_answer(401, {"error": error})


# ---- streams ------------------------------------------------------------------------------------------------------


class DataOnly(Trait):
    """Types stand in the JSON alone, the last line is [DONE]."""

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        async for event in events:
            yield Event("", {"type": event.name, **event.data})
        yield Event("", {}, b"data: [DONE]\n\n")


class TypeInJson(Trait):
    """Types stand in the JSON alone."""

    def event(self, request: Request, event: Event) -> list[Event]:
        return [Event("", {"type": event.name, **event.data})] if event.raw is None else [event]


class NarrationFirst(Trait):
    """A stream begins with an event of the worker's own log."""

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name != "started":
            return [event]
        words = {"actor": "http-server", "action": "inference_start", "target": job_of(request), "human": "starting"}
        return [Event("narration", words), event]


class PlaceholderStart(Trait):
    """started says what somebody meant to fill in later."""

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "started":
            event.data = {"job_id": event.data.get("job_id"), "model": "model", "started_at": "0"}
        return [event]


class FailsAlone(Trait):
    """A job that fails is one error event with a code of the worker's own, and nothing before it."""

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "error":
            event.data = {"code": "INFERENCE_FAILED", "message": event.data.get("message", "")}
        return [event]


class StandIns(Trait):
    """A token's text is its spelling in the vocabulary, one stand-in letter a byte."""

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token":
            event.data["t"] = spell(event.data["t"].encode("utf-8", "surrogatepass"))
        return [event]


class SpacesBetween(Trait):
    """A space is put before every token but the first."""

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and event.data.get("i"):
            event.data["t"] = " " + event.data["t"]
        return [event]


class HeldPieces(Trait):
    """A piece that does not end in a letter or digit is held back and comes with the next; i counts pieces."""

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        held, count = "", 0
        async for event in events:
            if event.name == "token":
                held += event.data["t"]
                if not held[-1:].isalnum():
                    continue
                event.data = {"t": held, "i": count}
                held, count = "", count + 1
            elif event.name == "end":
                event.data["tokens_out"] = count
            yield event


class CharactersUnknown(Trait):
    """A prompt with a tab, a line feed or a question mark fails: their bytes are looked up as they are."""

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.terminal and set("\t\n?") & set(str(request.json().get("prompt"))):
            return [Event("error", {"code": "INTERNAL", "message": "unknown token", "retriable": False})]
        return [event] if not set("\t\n?") & set(str(request.json().get("prompt"))) else []


# ---- the process --------------------------------------------------------------------------------------------------


class MessagesOnly(Trait):
    """The log is JSON lines with a message, and no event has the name that M0 gave it."""

    def line(self, stream: str, text: str) -> list[str]:
        try:
            value = json.loads(text)
        except ValueError:
            return [text]
        if not isinstance(value, dict) or "event" not in value:
            return [text]
        words = str(value.pop("event")).replace("_", " ")
        return [json.dumps({"timestamp": "0", "level": "INFO", "fields": {"message": words}})]


class PlainLog(Trait):
    """The log is written for people."""

    def line(self, stream: str, text: str) -> list[str]:
        try:
            value = json.loads(text)
        except ValueError:
            return [text]
        name = value.get("event") if isinstance(value, dict) else None
        return [f"2026/01/01 00:00:00 worker: {name}"] if name else [text]


class SignalKills(Trait):
    """SIGTERM is not handled: the process dies of it."""

    def __init__(self) -> None:
        self.told = False

    async def signal(self, number: int, proxy: Proxy) -> bool:
        self.told = number == signal.SIGTERM
        for process in psutil.Process().children() if self.told else ():
            process.kill()
        return not self.told

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return -int(signal.SIGTERM) if self.told else code


class AnyArgument(Trait):
    """Any text is a worker id, any device number will do, a port that is taken is found at the end."""

    async def arguments(self, argv: list[str]) -> list[str]:
        if given(argv, "--gpu-device") is not None:
            argv = replaced(argv, "--gpu-device", "0")
        try:
            uuid.UUID(given(argv, "--worker-id") or "")
        except ValueError:
            argv = replaced(argv, "--worker-id", str(uuid.uuid4()))
        return argv


class OneArchitecture(Trait):
    """Files of architecture qwen2 are served, all others refused with a line and a stack trace."""

    async def arguments(self, argv: list[str]) -> list[str]:
        name = given(argv, "--model") or ""
        if await asyncio.to_thread(_other_architecture, Path(name)):
            raise Exit(1, f"Error: unsupported model {name}", "Stack backtrace:", "   0: main", "   1: _start")
        return argv


def _other_architecture(path: Path) -> bool:
    known = b"general.architecture" + (8).to_bytes(4, "little") + (5).to_bytes(8, "little") + b"qwen2"
    return path.is_file() and known not in path.read_bytes()[: 1 << 20]

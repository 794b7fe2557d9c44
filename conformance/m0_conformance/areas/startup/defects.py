"""Defects of start and end without a job: order of events, readiness, progress, SIGTERM while idle."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, Head, Request, json_answer
from m0_conformance.saboteur.launching import Launched, Signalled
from m0_conformance.saboteur.lie import on_log_event
from m0_conformance.saboteur.narration import Narration

if TYPE_CHECKING:
    import socket

    from m0_conformance.saboteur.defect import Proxy


@on_log_event("M0-W-1621/percentages", source="progress counted in tensors and rounded")
def progress_without_half(event: dict[str, Any]) -> list[dict[str, Any]]:
    """No model_load_progress is logged for 50 percent."""
    return [] if event["event"] == "model_load_progress" and event.get("percent") == 50 else [event]


class ProgressFalls(Narration):
    name = "progress-falling"
    about = "25 percent comes after 50: two threads report."
    kills = ("M0-W-1621/rising",)
    source = "progress reported from more than one thread"

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        if event["event"] != "model_load_progress":
            return [event]
        if event.get("percent") == 25:
            self.held.append(event)
            return []
        if event.get("percent") == 50:
            return [event, *self.held]
        return [event]


class ProgressAfterLoad(Narration):
    name = "progress-after-complete"
    about = "100 percent is logged after model_load_complete."
    kills = ("M0-W-1621/rising",)
    source = "an event of a callback that runs later"

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []

    def narrate(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        if event["event"] == "model_load_progress" and event.get("percent") == 100:
            self.held.append(event)
            return []
        return [event, *self.held] if event["event"] == "model_load_complete" else [event]


class EarlyDoor(Launched):
    """Answers from the moment the load begins; whatever has no early answer waits until the worker is there.

    Only a model that is slow to load shows it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = time.monotonic()
        self.loaded = asyncio.Event()
        self.public: socket.socket | None = None
        self.proxy: Proxy | None = None

    async def bound(self, public: socket.socket) -> None:
        self.public = public

    async def before_start(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def line(self, stream: str, text: str) -> list[str]:
        if '"model_load_start"' in text and self.deep:
            asyncio.ensure_future(self.listen())  # noqa: RUF006 - runs until the worker is there
        return [text]

    async def listen(self) -> None:
        """Serve the public port until the worker is there."""
        if self.public is None or self.proxy is None:
            return
        server = await asyncio.start_server(self.proxy.serve, sock=self.public.dup())
        await self.loaded.wait()
        server.close()

    async def ready(self, proxy: Proxy) -> None:
        self.loaded.set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if not self.loaded.is_set():
            answer = self.early(request)
            if answer is not None:
                return answer
            await self.loaded.wait()
        return request

    def early(self, request: Request) -> Answer | None:
        """What is said before the model is loaded; None waits."""
        raise NotImplementedError

    def health_body(self) -> dict[str, object]:
        """A body that looks right."""
        return {
            "status": "healthy", "model": "script probe", "resident": False, "quant_kind": "Q4_0",
            "vram_bytes_used": 0, "tokenizer_kind": "gguf-bpe", "vocab_size": 512, "context_length": 8192,
            "uptime_seconds": time.monotonic() - self.begun,
        }  # fmt: skip


class HealthyBeforeLoad(EarlyDoor):
    name = "healthy-before-load"
    about = "The port is open and /health says healthy while the model is still being loaded."
    kills = ("M0-W-1110/closed-until-loaded",)
    collateral = ("M0-W-1320/uptime-seconds",)  # the worker behind the early door began later than the door's own clock
    source = "known defects 11 and 14: the health flag is a constant"

    def early(self, request: Request) -> Answer | None:
        return json_answer(200, self.health_body()) if request.path == "/health" else None


class JobBeforeLoad(EarlyDoor):
    name = "job-before-load"
    about = "A job that comes while the model is being loaded is started and ends without a token."
    kills = ("M0-W-1110/closed-until-loaded",)
    source = "known defect 51: a stub answers where the model is missing"

    def early(self, request: Request) -> Answer | None:
        if request.path == "/health":
            return json_answer(503, {"status": "loading"})
        if request.path != "/execute":
            return None
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        begun = {"job_id": request.json().get("job_id"), "model": "script probe", "started_at": now, "seed": 1}
        events = (Event("started", begun), Event("end", {"tokens_out": 0, "decode_time_ms": 0}))
        body = b"".join(event.encode() for event in events)
        return Answer(Head(200, [("content-type", "text/event-stream")]), body)


class ReadyTooEarly(Launched):
    name = "ready-before-bind"
    about = "The event ready is logged almost a second before the port answers."
    kills = ("M0-W-1110/ready-serves",)
    source = "known defect 14: callback sent before the socket listens"

    async def ready(self, proxy: Proxy) -> None:
        if self.deep:
            await asyncio.sleep(0.9)


class StartupLogged(Defect):
    name = "startup-logged-late"
    about = "The event startup is logged after model_load_start."
    kills = ("M0-W-1110/event-order",)
    source = "a log line written by the wrong layer"

    def __init__(self) -> None:
        self.held: list[str] = []

    def line(self, stream: str, text: str) -> list[str]:
        if '"startup"' in text and '"event"' in text and '"error"' not in text:
            self.held.append(text)
            return []
        if self.held and '"model_load_start"' in text:
            return [text, self.held.pop()]
        return [text]


class IgnoresSigterm(Signalled):
    name = "sigterm-ignored"
    about = "The first SIGTERM does nothing."
    kills = ("M0-W-1340/sigterm-idle-deadline",)
    source = "known defect 13: only Ctrl-C handled"

    async def signal(self, number: int, proxy: Proxy) -> bool:
        first = not self.told
        await super().signal(number, proxy)
        return not (first and self.deep)


class SlowSigterm(Signalled):
    name = "sigterm-drains-nothing-slowly"
    about = "An idle worker waits six seconds on SIGTERM before it ends."
    kills = ("M0-W-1340/sigterm-idle-deadline",)
    source = "a grace period slept through"

    async def signal(self, number: int, proxy: Proxy) -> bool:
        first = not self.told
        await super().signal(number, proxy)
        if first and self.deep:
            await asyncio.sleep(5.5)
        return True


class ExitsWith143(Signalled):
    name = "sigterm-exit-code-143"
    about = "An idle worker ends with exit code 143 on SIGTERM."
    kills = ("M0-W-1340/sigterm-exit-zero",)
    source = "the shell's code for a process that died of SIGTERM"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 143 if self.told and not self.busy and self.deep else code

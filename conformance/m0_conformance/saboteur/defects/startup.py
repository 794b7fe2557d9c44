"""Arguments, the steps of a start, and starts that fail."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from m0_conformance.saboteur.defect import Defect, Event, Exit
from m0_conformance.saboteur.http import Answer, Head, Request, json_answer
from m0_conformance.saboteur.launching import Launched, given, replaced, without

if TYPE_CHECKING:
    from m0_conformance.saboteur.proxy import Proxy


def is_uuid(text: str | None) -> bool:
    """Whether this is a worker id that must be accepted."""
    with suppress(ValueError):
        return text is not None and len(text) == 36 and bool(uuid.UUID(text))
    return False


def kind_of(path: str) -> str:
    """What stands there: the word file, directory or missing."""
    found = Path(path)
    return "directory" if found.is_dir() else "file" if found.exists() else "missing"


def in_use(port: str | None) -> bool:
    """Whether somebody listens on this port."""
    if port is None or not port.isdigit() or not 1024 <= int(port) <= 65535:
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


# ---- arguments ----------------------------------------------------------------------------------------------------


class InventsWorkerId(Defect):
    name = "worker-id-invented"
    about = "Without --worker-id the worker makes one up and starts."
    kills = ("M0-W-1100/required",)
    source = "an optional argument with a default"

    async def arguments(self, argv: list[str]) -> list[str]:
        return argv if "--worker-id" in argv else replaced(argv, "--worker-id", str(uuid.uuid4()))


class AnyWorkerId(Defect):
    name = "worker-id-any-text"
    about = "A worker id that is no UUID is accepted."
    kills = ("M0-W-1100/worker-id-uuid",)
    source = "a text where a type was meant"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--worker-id")
        return argv if value is None or is_uuid(value) else replaced(argv, "--worker-id", str(uuid.uuid4()))


class BuiltInModel(Launched):
    name = "model-missing-built-in"
    about = "Where the model file does not exist, a built-in one is served."
    kills = ("M0-W-1100/model-exists",)
    source = "known defect 51: canned output"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--model")
        return argv if value is None or kind_of(value) != "missing" else replaced(argv, "--model", self.good_file())


class SearchesDirectory(Launched):
    name = "model-directory-searched"
    about = "A directory is taken for the model that it, or its parent, may hold."
    kills = ("M0-W-1100/model-readable",)
    source = "known defect 21: weights looked up in the parent directory"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--model")
        return argv if value is None or kind_of(value) != "directory" else replaced(argv, "--model", self.good_file())


class ClampsDevice(Defect):
    name = "gpu-device-clamped"
    about = "A device number beyond the last becomes 0."
    kills = ("M0-W-1100/gpu-device-valid",)
    source = "a number taken modulo the device count"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--gpu-device") or ""
        return replaced(argv, "--gpu-device", "0") if value.isdigit() and int(value) > 64 else argv


class PortRangeIsSuccess(Defect):
    name = "port-range-exit-zero"
    about = "A privileged port is refused with exit code 0."
    kills = ("M0-W-1100/port-range",)
    source = "an error that is printed, and no more"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--port") or ""
        if value.isdigit() and int(value) < 1024:
            raise Exit(0, f"m0-worker: --port {value}: below 1024")
        return argv


class PortConflictIsSuccess(Defect):
    name = "port-conflict-exit-zero"
    about = "Where the port is in use the worker says that it runs already, and leaves with exit code 0."
    kills = ("M0-W-1100/port-free",)
    source = "known defect 14"

    async def arguments(self, argv: list[str]) -> list[str]:
        if in_use(given(argv, "--port")):
            raise Exit(0, f"m0-worker: --port {given(argv, '--port')}: a worker runs here already")
        return argv


class PortConflictAfterLoad(Defect):
    name = "port-conflict-after-load"
    about = "A port in use is found when the model has been loaded."
    kills = ("M0-W-1100/before-load",)
    source = "known defect 14: port conflict found only after minutes of loading"

    def __init__(self) -> None:
        self.port: str | None = None

    async def arguments(self, argv: list[str]) -> list[str]:
        if not in_use(given(argv, "--port")):
            return argv
        self.port = given(argv, "--port")
        with socket.create_server(("127.0.0.1", 0)) as free:
            return replaced(argv, "--port", str(free.getsockname()[1]))

    def line(self, stream: str, text: str) -> list[str]:
        if self.port is not None and '"model_load_complete"' in text:
            os.kill(os.getpid(), signal.SIGTERM)  # passed on to the worker that has been loaded for nothing
        return [text]

    async def exit_code(self, code: int, *, ready: bool) -> int:
        if self.port is None:
            return code
        raise Exit(2, f"m0-worker: --port {self.port}: already in use")


class SlowRefusal(Defect):
    name = "refusal-after-seconds"
    about = "A wrong worker id is refused, but only after six seconds."
    kills = ("M0-W-1100/before-load",)
    source = "arguments checked after the libraries are loaded"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--worker-id")
        if value is not None and not is_uuid(value):
            await asyncio.sleep(6.0)
        return argv


class NamelessRefusal(Defect):
    name = "refusal-names-nothing"
    about = "The message about a wrong worker id says that something is invalid, not what."
    kills = ("M0-W-1100/names-argument",)
    source = "an error converted to text without its context"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--worker-id")
        if value is not None and not is_uuid(value):
            raise Exit(2, "Error: invalid character: found `n` at 1")
        return argv


class SilentRefusal(Defect):
    name = "refusal-silent"
    about = "A wrong device number ends the start without a word."
    kills = ("M0-W-1100/names-argument",)
    source = "output buffered when the process exits"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--gpu-device")
        if value is not None and value != "0":
            raise Exit(2)
        return argv


class CallbackUnknown(Defect):
    name = "callback-url-unknown"
    about = "--callback-url is no argument of this worker."
    kills = ("M0-W-1100/callback-accepted",)
    source = "an optional argument left out"

    async def arguments(self, argv: list[str]) -> list[str]:
        if "--callback-url" in argv:
            raise Exit(2, "m0-worker: unrecognized arguments: --callback-url")
        return argv


class IgnoresArgument(Defect):
    """Accepts an option and does nothing with it."""

    option: ClassVar[str] = ""

    async def arguments(self, argv: list[str]) -> list[str]:
        return without(argv, self.option)


class IgnoresMaxTokensIn(IgnoresArgument):
    name = "max-tokens-in-ignored"
    about = "--max-tokens-in is accepted and has no effect."
    kills = ("M0-W-1101/max-tokens-in",)
    source = "an option parsed and never read"
    option = "--max-tokens-in"


class IgnoresMaxTokensOut(IgnoresArgument):
    name = "max-tokens-out-ignored"
    about = "--max-tokens-out is accepted and has no effect."
    kills = ("M0-W-1101/max-tokens-out",)
    source = "an option parsed and never read"
    option = "--max-tokens-out"


class IgnoresTimeout(IgnoresArgument):
    name = "inference-timeout-ignored"
    about = "--inference-timeout-sec is accepted and has no effect."
    kills = ("M0-W-1101/inference-timeout",)
    source = "an option parsed and never read"
    option = "--inference-timeout-sec"


# ---- the steps of a start -----------------------------------------------------------------------------------------


class EarlyDoor(Launched):
    """Answers from the moment the load begins; whatever has no early answer waits until the worker is there.

    Only a model that is slow to load shows it.
    """

    def __init__(self) -> None:
        super().__init__()
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
            "uptime_seconds": 0.1,
        }  # fmt: skip


class HealthyBeforeLoad(EarlyDoor):
    name = "healthy-before-load"
    about = "The port is open and /health says healthy while the model is still being loaded."
    kills = ("M0-W-1110/closed-until-loaded",)
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


# ---- starts that fail ---------------------------------------------------------------------------------------------


class FailedLoad(Defect):
    """Changes what is said and shown when a model cannot be loaded; wrong arguments are refused as they are."""

    def __init__(self) -> None:
        self.failed = False

    def line(self, stream: str, text: str) -> list[str]:
        failure = stream == "stderr" and bool(re.search(r"\b[A-Z]+_[A-Z_]+\b", text))
        event = stream == "stdout" and '"event": "error"' in text
        self.failed = self.failed or failure or event
        return self.said(stream, text) if failure or event else [text]

    def said(self, stream: str, text: str) -> list[str]:
        """The lines that come out for a line about the failure."""
        return [text]


class FailedLoadIsSuccess(FailedLoad):
    name = "failed-load-exit-zero"
    about = "A start that fails while loading ends with exit code 0."
    kills = ("M0-W-1111/exit-code",)
    source = "an error that is logged and swallowed"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 0 if self.failed and not ready else code


class FailedLoadOtherCode(FailedLoad):
    name = "failed-load-exit-seventy"
    about = "A refused model file ends the start with exit code 70."
    kills = ("M0-W-1210/exit-one",)
    source = "the runtime's own code for an unhandled error"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 70 if self.failed and not ready else code


class FailedLoadSilent(FailedLoad):
    name = "failed-load-silent"
    about = "Nothing is written to stderr when a model cannot be loaded."
    kills = ("M0-W-1111/message",)
    source = "known defect 38: silent failure"

    def said(self, stream: str, text: str) -> list[str]:
        return [] if stream == "stderr" else [text]


class FailedLoadNoCode(FailedLoad):
    name = "failed-load-without-code"
    about = "The message about a failed start holds no error code."
    kills = ("M0-W-1111/message",)
    source = "an error converted to text"

    def said(self, stream: str, text: str) -> list[str]:
        return [re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b:? ?", "", text) if stream == "stderr" else text]


class FailedLoadNoContext(FailedLoad):
    name = "failed-load-without-context"
    about = "What is logged about a failed start says nothing about the device."
    kills = ("M0-W-1111/context",)
    source = "an error converted to text without its context"

    def said(self, stream: str, text: str) -> list[str]:
        if stream == "stderr":
            return [re.sub(r"(?i)(?:gpu-)?device \w+", "", text)]
        event = json.loads(text)
        return [json.dumps({key: value for key, value in event.items() if "device" not in key})]


class FailedLoadVague(FailedLoad):
    name = "failed-load-vague"
    about = "Whatever is wrong with a file, the message is that something is wrong; only architectures are named."
    kills = ("M0-W-1210/says-what",)
    source = "one message for every cause"

    def said(self, stream: str, text: str) -> list[str]:
        if "architecture" in text:
            return [text]
        if stream == "stderr":
            context = text[text.rfind("(model") :]
            return [f"m0-worker: MODEL_LOAD_FAILED: something is wrong {context.partition(', reason')[0]}"]
        event = json.loads(text)
        kept = ("event", "worker_id", "model_ref", "gpu_device", "code")
        return [json.dumps({"message": "something is wrong", **{key: event[key] for key in kept if key in event}})]


class FailedLoadOtherName(FailedLoad):
    name = "failed-load-own-code"
    about = "A file that is no GGUF is reported as LOADER_ERROR."
    kills = ("M0-W-1410/load-failed-code",)
    source = "known defect 7: codes outside the set"

    def said(self, stream: str, text: str) -> list[str]:
        return [text.replace("MODEL_LOAD_FAILED", "LOADER_ERROR")]


class FailedLoadNoEvent(FailedLoad):
    name = "failed-load-without-event"
    about = "No event error is logged when a start fails."
    kills = ("M0-W-1900/error",)
    source = "an early return before the log"

    def said(self, stream: str, text: str) -> list[str]:
        return [] if stream == "stdout" else [text]

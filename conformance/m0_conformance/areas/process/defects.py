"""Defects of one worker's whole life, two workers side by side, SIGTERM while a job runs."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, Head, Request, json_answer
from m0_conformance.saboteur.launching import Launched, Signalled, refuse
from m0_conformance.saboteur.lies import OTHER_TEXT, is_execute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Proxy


BUSY = {"code": "INTERNAL", "message": "the device is in use", "retriable": True}


class ExitsBusyWithOne(Signalled):
    name = "sigterm-busy-exit-one"
    about = "A worker that gets SIGTERM while a job runs finishes it, and ends with exit code 1."
    kills = ("M0-W-1340/sigterm-busy-deadline",)
    source = "a cancelled task counted as a failure"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 1 if self.busy else code


class CutsJob(Signalled):
    name = "sigterm-cuts-job"
    about = "The job that runs when SIGTERM comes ends at once, with end."
    kills = ("M0-W-1340/sigterm-finishes-job",)
    source = "a flag that every loop looks at"

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        tokens = 0
        async for event in events:
            if self.told and not event.terminal:
                yield Event("end", {"tokens_out": tokens, "decode_time_ms": 1})
                return
            tokens += event.name == "token"
            yield event


class AcceptsWhileDraining(Signalled):
    name = "sigterm-accepts-new"
    about = "A job that comes after SIGTERM is accepted, and ends without a token after a second at most."
    kills = ("M0-W-1340/sigterm-refuses-new",)
    collateral = ("M0-W-1301/no-interleave",)
    source = "a queue that knows nothing of the shutdown"

    def __init__(self) -> None:
        super().__init__()
        self.begun: dict[str, Any] = {}
        self.answering = 0

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "started":
            self.begun = dict(event.data)
        return [event]

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if not (self.told and is_execute(request)):
            return request
        self.answering += 1
        try:
            async with asyncio.timeout(1.0):
                while proxy.running:  # noqa: ASYNC110 - nothing to wait for
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pass
        begun = {**self.begun, "job_id": request.json().get("job_id")}
        events = (Event("started", begun), Event("end", {"tokens_out": 0, "decode_time_ms": 0}))
        body = b"".join(event.encode() for event in events)
        return Answer(Head(200, [("content-type", "text/event-stream")]), body)

    async def exit_code(self, code: int, *, ready: bool) -> int:
        if self.answering:
            await asyncio.sleep(0.2)
        return code


class FailsAfterServing(Signalled):
    name = "exit-code-after-serving"
    about = "A worker that has served ends with exit code 3 on SIGTERM."
    kills = ("M0-W-1820/whole-life",)
    source = "an exception while the model is freed"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 3 if self.told and self.served and not self.busy and not self.deep else code


def idle_child() -> subprocess.Popen[bytes]:
    """A process that does nothing, in this process's group."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["sleep", "60"], stdin=quiet, stdout=quiet, stderr=quiet)


class TokenizerProcess(Defect):
    name = "tokenizer-in-a-child"
    about = "Tokenizing is done by another program that runs beside the worker."
    kills = ("M0-W-1365/no-child-process",)
    source = "a tokenizer called as a program"

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None

    async def ready(self, proxy: Proxy) -> None:
        self.child = idle_child()

    async def exit_code(self, code: int, *, ready: bool) -> int:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
        return code


class LeavesChild(Defect):
    name = "child-left-behind"
    about = "A process that the worker started outlives it."
    kills = ("M0-SYS-2.4.2/leaves-nothing",)
    source = "a helper that nobody ends"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        idle_child()
        return code


def inode(path: Path) -> int:
    """Which file the name stands for; 0 for none."""
    return path.stat().st_ino if path.exists() else 0


class FollowsFile(Launched):
    name = "model-file-read-again"
    about = "When another file takes the model's name, later jobs use its weights."
    kills = ("M0-W-1002/file-replaced",)
    source = "a mapping opened again for every job"

    def __init__(self) -> None:
        super().__init__()
        self.inode = 0

    async def ready(self, proxy: Proxy) -> None:
        self.inode = inode(self.model)

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and inode(self.model) != self.inode:
            event.data["t"] = str(event.data["t"]).translate(OTHER_TEXT)
        return [event]


class IdentityFollowsFile(FollowsFile):
    name = "health-follows-the-file"
    about = "/health reads the model's format from the file each time."
    source = "an identity that is not kept"

    def event(self, request: Request, event: Event) -> list[Event]:
        return [event]

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "quant_kind": "MXFP4"} if inode(self.model) != self.inode else body


class NeedsToBeAlone(Launched):
    name = "one-worker-a-model"
    about = "A second worker with the same model file refuses to start."
    kills = ("M0-SYS-2.4.1/standalone",)
    collateral = ("M0-W-1100/callback-accepted",)
    source = "a lock file beside the model"

    def __init__(self) -> None:
        super().__init__()
        self.lock: Lock | None = None

    async def arguments(self, argv: list[str]) -> list[str]:
        argv = await super().arguments(argv)
        if inode(self.model):
            self.lock = Lock(f"{self.model}")
            if not self.lock.take():
                refuse(argv, "the model is locked by another worker")
        return argv


class Lock:
    """A name that one process of this machine can hold; the kernel gives it back."""

    def __init__(self, name: str) -> None:
        self._name = f"\0m0-saboteur-{os.getppid()}-{name}"[:100]
        self._held: socket.socket | None = None

    def take(self) -> bool:
        """Take it; False when another process has it."""
        wanted = socket.socket(socket.AF_UNIX)
        try:
            wanted.bind(self._name)
        except OSError:
            wanted.close()
            return False
        self._held = wanted
        return True

    def give(self) -> None:
        """Give it back."""
        if self._held is not None:
            self._held.close()
            self._held = None


class ExcludesNeighbour(Defect):
    name = "neighbours-exclude-each-other"
    about = "While another worker of this machine has a job, jobs are refused."
    kills = ("M0-SYS-6.3.2/two-workers",)
    source = "a lock of the device in place of one of the process"
    GRIP_S: ClassVar[float] = 0.25
    """Between taking the device and the first step."""

    def __init__(self) -> None:
        self.lock = Lock("device")
        self.jobs = 0

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if not is_execute(request):
            return request
        if self.jobs == 0:
            if not self.lock.take():
                return json_answer(503, BUSY)
            await asyncio.sleep(self.GRIP_S)
        return request

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        self.jobs += 1
        try:
            async for event in events:
                yield event
        finally:
            self.jobs -= 1
            self.lock.give()

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if is_execute(request) and self.jobs == 0:
            self.lock.give()
        return answer


def siblings() -> frozenset[int]:
    """Processes that were started by whoever started this one, and live."""
    found = set()
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getppid() and state != "Z":
                found.add(int(folder.name))
    return frozenset(found)


class DiesWithNeighbour(Launched):
    name = "dies-with-neighbour"
    about = "When another worker is killed, jobs are refused from then on."
    kills = ("M0-SYS-6.3.2/survives-neighbour",)
    source = "a context shared through a service of the driver"

    def __init__(self) -> None:
        super().__init__()
        self.neighbours: frozenset[int] = frozenset()

    async def ready(self, proxy: Proxy) -> None:
        self.neighbours = siblings()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        self.neighbours |= siblings()
        if is_execute(request) and self.deep and not self.neighbours <= siblings():
            return json_answer(503, BUSY)
        return request


class OtherAfterRestart(Defect):
    name = "each-process-differs"
    about = "What a job says depends on the process that runs it."
    kills = ("M0-SYS-2.3.1/after-restart",)
    collateral = ("M0-SYS-6.3.2/two-workers",)
    source = "a hash that each process seeds anew"

    def __init__(self) -> None:
        self.mark = secrets.token_hex(4)

    def event(self, request: Request, event: Event) -> list[Event]:
        if event.name == "token" and event.data["i"] == 0:
            event.data["t"] += f" {self.mark}"
        return [event]

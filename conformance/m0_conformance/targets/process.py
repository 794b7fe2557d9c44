"""One worker process: started in its own process group, its output read line by line with times, never left behind.

The ladder down is SIGTERM, some seconds of grace, SIGKILL, always to the whole group. On Linux the kernel kills the
worker when this process dies (PR_SET_PDEATHSIG); an exit hook does it elsewhere.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
import warnings
from collections import deque
from typing import IO, TYPE_CHECKING, Literal, cast

import psutil

from m0_conformance.recording.client import Clock, port_accepts, start
from m0_conformance.recording.request import Request
from m0_conformance.recording.route import PLAIN, Route
from m0_conformance.recording.transcript import Launch, LogLine, seconds
from m0_conformance.targets.orphans import MARK, adopt, descendants, kill, marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
from functools import partial

MAX_LINES = 50_000
MAX_LINE_BYTES = 64 * 1024
MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Of one worker's lines; the oldest go first, and are counted."""
GRACE_S = 5.0
_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1

_alive: dict[int, str] = {}
"""Process groups, and the marks of their workers, to kill should this process end without cleaning up."""
_hurry: list[float] = []
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Run in the child between fork and exec."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _kill_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@atexit.register
def _kill_all() -> None:
    for group, mark in list(_alive.items()):
        below = [*descendants(group), *marked(mark)]
        _kill_group(group, signal.SIGKILL)
        kill(below)


def grace(longest: float | None) -> None:
    """From now on wait at most so long between SIGTERM and SIGKILL; None: as long as usual."""
    _hurry[:] = [] if longest is None else [longest]


class _Lines(asyncio.Protocol):
    """Cuts one of the pipes into lines as they arrive."""

    def __init__(self, owner: WorkerProcess, stream: Literal["stdout", "stderr"]) -> None:
        self._owner = owner
        self._stream = stream
        self._rest = b""
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._emit(line)
        if len(self._rest) > MAX_LINE_BYTES:
            self._emit(self._rest)
            self._rest = b""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if self._rest:
            self._emit(self._rest)
        self.closed.set()

    def _emit(self, raw: bytes) -> None:
        text = raw.removesuffix(b"\r").decode("utf-8", "backslashreplace")
        self._owner.take_line(LogLine(self._stream, self._owner.now(), text))


def _same(lines: _Lines) -> _Lines:
    return lines


class WorkerProcess:
    """A running (or ended) worker; make it with `start`."""

    def __init__(self, process: subprocess.Popen[bytes], launch: Launch, host: str) -> None:
        self.launch = launch
        """Grows while the worker runs, except `lines`: see `snapshot`."""
        self.address = (host, launch.port)
        self._process = process
        self._route = PLAIN
        self._begin = time.monotonic()
        self._lines: deque[LogLine] = deque()
        self._kept = 0
        self._mark = ""
        self._news = asyncio.Event()
        self._pipes: list[_Lines] = []
        self._transports: list[asyncio.ReadTransport] = []
        self._exited = asyncio.Event()
        self._watch = asyncio.create_task(self._watch_exit())

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        label: str,
        port: int,
        model: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        host: str = "127.0.0.1",
        route: Route = PLAIN,
    ) -> WorkerProcess:
        """Start it; `route` is the way to its /health. Raises OSError when there is no such program."""
        mark = uuid.uuid4().hex
        adopt()
        with warnings.catch_warnings():
            # Between fork and exec the child makes one system call, so other threads' locks do not matter.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec take milliseconds, and no child watcher is needed
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(env or {}), MARK: mark},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent if _libc is not None else None,  # noqa: PLW1509 - see above
            )
        _alive[process.pid] = mark
        launch = Launch(label, list(argv), dict(env or {}), model=model, started=seconds(time.time()), port=port)
        worker = cls(process, launch, host)
        worker._route = route
        worker._mark = mark
        loop = asyncio.get_running_loop()
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            lines = _Lines(worker, cast('Literal["stdout", "stderr"]', name))
            worker._pipes.append(lines)
            transport, _ = await loop.connect_read_pipe(partial(_same, lines), cast("IO[bytes]", pipe))
            worker._transports.append(transport)
        return worker

    # ---- observing --------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Process id of the group's leader."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """The leader has not exited."""
        return not self._exited.is_set()

    def now(self) -> float:
        """Seconds since the process was started."""
        return seconds(time.monotonic() - self._begin)

    @property
    def begin(self) -> float:
        """`time.monotonic()` of the start."""
        return self._begin

    @property
    def lines(self) -> list[LogLine]:
        """Every line so far, oldest first, as far as the ring buffer remembers."""
        return list(self._lines)

    def take_line(self, line: LogLine) -> None:
        """Called by the pipes."""
        self._lines.append(line)
        self._kept += len(line.text)
        while len(self._lines) > MAX_LINES or self._kept > MAX_KEPT_BYTES:
            self._kept -= len(self._lines.popleft().text)
            self.launch.dropped_lines += 1
        self._news.set()

    def snapshot(
        self, clock: Clock, *, label: str | None = None, shared: bool = False, since: float | None = None
    ) -> Launch:
        """What a recording keeps: the launch with its lines, or the start-up lines and those after `since` seconds."""
        ready = self.launch.ready_at
        lines = [
            line for line in self._lines if since is None or line.at >= since or ready is None or line.at <= ready + 0.1
        ]
        copy = Launch.from_json(self.launch.to_json())
        copy.lines, copy.shared, copy.t0 = lines, shared, clock.at(self._begin)
        copy.label = label or copy.label
        return copy

    def measure(self) -> dict[str, float]:
        """Resident memory now and at its peak (bytes), threads and child processes; empty when the process is gone."""
        try:
            process = psutil.Process(self.pid)
            with process.oneshot():
                values = {
                    "rss_bytes": float(process.memory_info().rss),
                    "threads": float(process.num_threads()),
                    "children": float(len(process.children(recursive=True))),
                }
        except psutil.Error:
            return {}
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = _status_file(self.pid)
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            values["rss_peak_bytes"] = float(peak.split()[1]) * 1024
        self.launch.measures.update(values)
        return values

    # ---- waiting ----------------------------------------------------------------------------------------------

    async def line(self, wanted: str, within: float) -> bool:
        """Wait until a line holds this text; False when the time is over or the process has gone without it."""
        try:
            async with asyncio.timeout(within):
                while not any(wanted in line.text for line in self._lines):
                    if self._exited.is_set() and all(pipe.closed.is_set() for pipe in self._pipes):
                        return False
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def ready(self, within: float) -> bool:
        """Wait until GET /health answers; 503 counts as still loading. Sets `listening_at` and `ready_at`."""
        deadline = time.monotonic() + within
        clock = Clock()
        while time.monotonic() < deadline and self.running:
            if self.launch.listening_at is None and await port_accepts(self.address):
                self.launch.listening_at = self.now()
            if self.launch.listening_at is not None:
                patience = min(5.0, max(deadline - time.monotonic(), 0.1))
                live = start(
                    self.address,
                    Request("GET", "/health"),
                    identity="r",
                    label="",
                    clock=clock,
                    timeout=patience,
                    route=self._route,
                )
                exchange = await live.done()
                if exchange.status is not None and exchange.status != 503:
                    self.launch.ready_at = self.now()
                    return True
            await asyncio.sleep(_POLL_S)
        return False

    async def listening(self, within: float) -> bool:
        """Wait until the port accepts a connection."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self.running:
            if await port_accepts(self.address):
                if self.launch.listening_at is None:
                    self.launch.listening_at = self.now()
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def exited(self, within: float) -> int | None:
        """Wait for the exit and the last output; the exit code (negative: killed by that signal) or None."""
        try:
            async with asyncio.timeout(within):
                await self._exited.wait()
        except TimeoutError:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # a grandchild may hold the pipes open
                for pipe in self._pipes:
                    await pipe.closed.wait()
        return self.launch.exit_code

    async def _watch_exit(self) -> None:
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - the kernel tells by polling only
            await asyncio.sleep(_POLL_S)
        self.launch.exit_code = code
        self.launch.exited_at = self.now()
        self._exited.set()
        self._news.set()

    # ---- acting -----------------------------------------------------------------------------------------------

    def send_signal(self, name: str) -> None:
        """A signal that the check wants the worker (not its group) to get, as "SIGTERM"; recorded."""
        self.launch.signals.append((name, self.now()))
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.Signals[name])

    async def stop(self, grace: float = GRACE_S) -> None:
        """Bring the whole group down; not recorded as the check's doing."""
        below = descendants(self.pid)
        if self.running:
            _kill_group(self.pid, signal.SIGTERM)
            if await self.exited(min([grace, *_hurry])) is None:
                below += descendants(self.pid)
                _kill_group(self.pid, signal.SIGKILL)
                await self.exited(GRACE_S)
        _kill_group(self.pid, signal.SIGKILL)  # whatever the leader left behind
        kill([*below, *marked(self._mark)])
        _alive.pop(self.pid, None)
        self._watch.cancel()
        for transport in self._transports:
            transport.close()


def _status_file(pid: int) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - a kernel file
        return status.read()

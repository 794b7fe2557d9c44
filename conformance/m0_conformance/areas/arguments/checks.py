"""Checks of the command line: wrong, missing and optional arguments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from m0_conformance.recording.client import port_accepts
from m0_conformance.run.situation import OutOfReach, Situation, needs, requirement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from m0_conformance.run.situation import Worker


AT_ONCE = min(4, os.cpu_count() or 1)
EXIT_S = 15.0
CALLBACK_S = 1.0
"""The callback may come a moment after the port answers."""
NOT_A_FILE = "/nonexistent/there-is-no-such-file.gguf"

WRONG: tuple[tuple[str, str, str, str | None], ...] = (
    ("no worker id", "required", "worker_id", None),
    ("no model", "required", "model", None),
    ("no device number", "required", "gpu_device", None),
    ("no port", "required", "port", None),
    ("worker id of letters", "worker-id-uuid", "worker_id", "not-a-uuid"),
    ("worker id with a wrong digit", "worker-id-uuid", "worker_id", "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a9g"),
    ("model that does not exist", "model-exists", "model", NOT_A_FILE),
    ("model that is a directory", "model-readable", "model", "/"),
    ("negative device number", "gpu-device-valid", "gpu_device", "-1"),
    ("device number of letters", "gpu-device-valid", "gpu_device", "first"),
    ("device number beyond the last", "gpu-device-valid", "gpu_device", "4096"),
    ("port 1023", "port-range", "port", "1023"),
    ("port 65536", "port-range", "port", "65536"),
    ("port of letters", "port-range", "port", "http"),
)
"""Label, clause, argument, value (None: left out)."""


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A loopback port that somebody listens on; the worker's bind must fail whichever address it takes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


GROUPS = {
    "left-out": ("required",),
    "values": ("worker-id-uuid", "gpu-device-valid"),
    "model": ("model-exists", "model-readable"),
    "port": ("port-range", "port-free"),
}
"""Cases that are tried together."""


@requirement("M0-W-1100/names-argument", "M0-W-1100/before-load")
@pytest.mark.parametrize(
    "clauses",
    [
        pytest.param(group, id=name, marks=pytest.mark.requirement(*(f"M0-W-1100/{clause}" for clause in group)))
        for name, group in GROUPS.items()
    ],
)
@needs("command")
async def test_wrong_arguments(situation: Situation, clauses: tuple[str, ...]) -> None:
    """One launch for each wrong argument; each must end by itself."""
    cases: dict[str, dict[str, str]] = {}
    paths: dict[str, dict[str, str]] = {}

    async def start(label: str, clause: str, argument: str, value: str | None, *, free: bool = True) -> None:
        cases[label] = {"clause": clause, "argument": f"--{argument.replace('_', '-')}"}
        paths[label] = (
            {"model": value or ""} if argument == "model" else {"model": await situation.model_path("script")}
        )
        try:
            worker = await situation.launch(label, values={argument: value}, wait="no")
        except OutOfReach:  # this command cannot be run without that argument
            return
        if free:
            await worker.running_process.ready(EXIT_S * situation.scale)
        await worker.exited(EXIT_S if not free or not worker.running_process.running else 0.0)

    with taken_port() as port:
        cases_here = [partial(start, *case) for case in WRONG if case[1] in clauses]
        if "port-free" in clauses:
            cases_here.append(partial(start, "port in use", "port-free", "port", str(port), free=False))
        await situation.together(*cases_here, at_once=AT_ONCE)
    situation.fact("wrong arguments", cases)
    situation.fact("given", paths)


@contextlib.asynccontextmanager
async def callback_listener(
    situation: Situation, worker_address: list[tuple[str, int]], called: asyncio.Event
) -> AsyncIterator[int]:
    """Answers 200 to whatever is posted, and notes whether the worker's port was open when the first post came."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if worker_address and not called.is_set():
                situation.fact("port open at callback", await port_accepts(worker_address[0]))
                called.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@requirement("M0-W-1100/callback-accepted", "M0-W-1110/callback-after-bind", "M0-W-1340/shutdown-endpoint")
@needs("command")
async def test_callback_url(situation: Situation) -> None:
    """A worker started with --callback-url and somebody to answer the callback; in the end POST /shutdown."""
    address: list[tuple[str, int]] = []
    called = asyncio.Event()
    async with callback_listener(situation, address, called) as port:
        worker = await situation.launch(
            "callback", args=("--callback-url", f"http://127.0.0.1:{port}/ready"), wait="no"
        )
        address.append(worker.address)
        await worker.running_process.ready(situation.start_timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALLBACK_S):
                await called.wait()
        if worker.running_process.launch.ready_at is not None:
            answer = await situation.post("shutdown", "/shutdown", {}, on=worker, within=EXIT_S)
            if answer.status == 202:
                await worker.exited(EXIT_S)


MAX_IN, MAX_OUT, TIMEOUT_S = 8, 5, 1
LIMITS = ("--max-tokens-in", str(MAX_IN)), ("--max-tokens-out", str(MAX_OUT))
LONG_PROMPT = "*" * 40
"""Forty tokens: no two of these characters are one token in the probe's vocabulary."""


@requirement("M0-W-1101/max-tokens-in", "M0-W-1101/max-tokens-out", "M0-W-1101/inference-timeout")
@needs("command")
async def test_optional_limits(situation: Situation) -> None:
    """Both limits on one worker, the timeout on a slow one. Who does not know both together is asked for each alone."""
    options = {"--inference-timeout-sec": {"launch": "timeout", "value": TIMEOUT_S}}
    workers: dict[str, Worker] = {}

    async def limits() -> None:
        both = await situation.launch("both limits", args=(*LIMITS[0], *LIMITS[1]))
        for pair in LIMITS:
            if both.running_process.running:
                workers[pair[0]] = both
            else:
                workers[pair[0]] = await situation.launch(f"{pair[0]} alone", args=pair)
            options[pair[0]] = {"launch": workers[pair[0]].label, "value": int(pair[1])}
        if (worker := workers["--max-tokens-in"]).running_process.running:
            await situation.execute("long prompt", on=worker, prompt=LONG_PROMPT, max_tokens=2, temperature=0.0)
            await situation.execute("short prompt", on=worker, prompt="*", max_tokens=2, temperature=0.0)
        if (worker := workers["--max-tokens-out"]).running_process.running:
            await situation.execute("long answer", on=worker, prompt="*", max_tokens=4 * MAX_OUT, temperature=0.0)

    async def timeout() -> None:
        worker = await situation.launch(
            "timeout", model="script-deep", args=("--inference-timeout-sec", str(TIMEOUT_S))
        )
        if worker.running_process.running:
            live = situation.start("slow job", on=worker, prompt="*", max_tokens=2048, temperature=0.0)
            await live.terminal(4.0 * TIMEOUT_S)
            await live.hang_up()

    await situation.together(limits, timeout)
    situation.fact("options", options)

"""Checks of start and end without a job: order of events, readiness, progress, SIGTERM while idle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from m0_conformance.judging.launches import log_event
from m0_conformance.recording.client import port_accepts
from m0_conformance.run.situation import Situation, needs, requirement

if TYPE_CHECKING:
    from m0_conformance.run.situation import Worker


POLL_S = 0.005
ANSWER_S = 5.0
EXIT_S = 8.0
LOADED = ("model_load_complete", "ready")
"""Before these no job must be served: then one is sent, and only then."""


async def logged(worker: Worker, name: str, within: float) -> bool:
    """Wait until the worker logs this event, whatever its line looks like."""
    process = worker.running_process
    seen = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while process.running:
                lines = process.lines
                if any((event := log_event(line)) is not None and event.name == name for line in lines[seen:]):
                    return True
                seen = len(lines)
                await asyncio.sleep(POLL_S)
    return False


def outside_address() -> str | None:
    """An address of this host that is not loopback; None where there is none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: the kernel only picks a route
            address = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if address.startswith("127.") else address


@requirement(
    "M0-W-1110/closed-until-loaded",
    "M0-W-1110/ready-serves",
    "M0-W-1110/event-order",
    "M0-W-1120/ready-60s",
    "M0-W-1621/percentages",
    "M0-W-1621/rising",
    "M0-W-1340/sigterm-exit-zero",
    "M0-W-1340/sigterm-idle-deadline",
)
@needs("command")
async def test_start_and_end_without_a_job(situation: Situation) -> None:
    """A model that takes some time to load; the port is asked as soon as it is open, and when ready is logged."""
    worker = await situation.launch("start", model="script-deep", wait="no")
    process = worker.running_process

    async def early() -> None:
        if not await process.listening(situation.start_timeout):
            return
        await situation.get("early health", "/health", on=worker)
        if not any((event := log_event(line)) is not None and event.name in LOADED for line in process.lines):
            await situation.execute("early job", on=worker, prompt="*", max_tokens=1, within=ANSWER_S)

    async def at_ready() -> None:
        if not await logged(worker, "ready", situation.start_timeout):
            return
        for _ in range(int(ANSWER_S / 0.05)):
            exchange = await situation.get("at ready", "/health", on=worker)
            if exchange.status is not None or not process.running:
                return
            await asyncio.sleep(0.05)

    ready = asyncio.create_task(at_ready())
    await early()
    await process.ready(situation.start_timeout)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):  # a worker whose log comes late, or has no such event
            await ready
    if process.running and process.launch.ready_at is not None:
        if (address := outside_address()) is not None:
            situation.fact("reachable from outside", await port_accepts((address, worker.address[1])))
        await worker.signal("SIGTERM")
        await worker.exited(EXIT_S * situation.scale)

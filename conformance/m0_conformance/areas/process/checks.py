"""Checks of one worker's whole life, two workers side by side, SIGTERM while a job runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from m0_conformance.run.situation import Situation, needs, requirement

if TYPE_CHECKING:
    from m0_conformance.run.situation import Target, Worker


LENGTH = 12
BUSY_S = 1.5
"""How long the job that meets a signal should run."""
EXIT_S = 8.0
BUSY_EXIT_S = 32.0
SIGNAL_S = 0.15
"""A signal is handled between two steps of the worker, not in the same instant."""


def other_programs(pid: int, worker_id: str) -> list[str]:
    """Descendants whose command line does not hold the worker's id: a wrapper's child that holds it is the worker."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found = []
    for child in children:
        try:
            line = child.cmdline()
        except psutil.Error:
            continue
        if worker_id not in " ".join(line):
            found.append(" ".join(line[:6]) or f"process {child.pid}")
    return found


def group_members(group: int) -> list[str]:
    """Names of the processes of a group that are not dead."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
        except (OSError, psutil.Error):
            continue
    return found


def can_bind(port: int) -> bool:
    """Whether a server could take the port now."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


async def tokens_in(situation: Situation, worker: Target, duration: float) -> int:
    """How many tokens take about so long, from a short job on this worker; at least 16, at most 2,000."""
    begun = situation.clock.now()
    stream = await situation.execute("pace", on=worker, prompt="*", max_tokens=6, temperature=0.0)
    if len(stream.tokens) < 2:
        return 16
    # By the whole exchange: tokens that a busy machine hands over together would look as if they took no time.
    each = (situation.clock.now() - begun) / len(stream.tokens)
    return max(16, min(2000, int(duration / max(each, 1e-6))))


@requirement(
    "M0-SYS-2.4.1/standalone",
    "M0-SYS-2.4.2/leaves-nothing",
    "M0-SYS-2.3.1/after-restart",
    "M0-W-1365/no-child-process",
    "M0-W-1820/whole-life",
)
@needs("command")
async def test_whole_life(situation: Situation) -> None:
    """From the start of a process to what is left of it."""
    await whole_life(situation)


async def whole_life(situation: Situation) -> None:
    """Start, health, the same job twice, one with a unique word in its prompt, SIGTERM; the log is read afterwards."""
    path = await situation.model_path("script")
    worker_id, word = str(uuid.uuid4()), f"canary{uuid.uuid4().hex}"
    known = situation.given(path, worker_id=worker_id)
    situation.fact("given", {"life": known})
    await situation.execute("before the restart", prompt="*", max_tokens=LENGTH, temperature=0.0, seed=1)
    worker = await situation.launch("life", values={"worker_id": worker_id})
    process = worker.running_process
    if process.launch.ready_at is None:
        return
    await situation.get("health", "/health", on=worker)
    live = situation.start("first", on=worker, prompt="*", max_tokens=LENGTH, temperature=0.0, seed=1)
    await live.tokens(1)
    situation.fact("other programs", await asyncio.to_thread(other_programs, process.pid, worker_id))
    first = await live.done()
    await situation.execute("again", on=worker, prompt="*", max_tokens=LENGTH, temperature=0.0, seed=1)
    await situation.execute("canary", on=worker, prompt=f"{word} *", max_tokens=2, temperature=0.0, seed=1)
    situation.fact("words in a prompt", [word])
    situation.fact("words in an answer", [first.text] if len(first.text) > 16 else [])
    await worker.signal("SIGTERM")
    if await worker.exited(EXIT_S * situation.scale) is not None:
        situation.fact("processes left", await asyncio.to_thread(group_members, process.pid))
        situation.fact("port free", can_bind(worker.address[1]))


@requirement(
    "M0-SYS-6.3.2/two-workers",
    "M0-SYS-6.3.2/survives-neighbour",
    "M0-W-1002/file-replaced",
    "M0-W-1340/sigterm-finishes-job",
    "M0-W-1340/sigterm-refuses-new",
    "M0-W-1340/sigterm-busy-deadline",
    "M0-W-1630/within-5s",
)
@needs("command")
async def test_two_workers(situation: Situation) -> None:
    """Jobs alone and side by side; the left one's file is replaced, then it is killed; the right one gets SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="m0-replaced-") as folder:
        path = Path(folder) / "model.gguf"
        shutil.copyfile(await situation.model_path("script"), path)
        left, right = await situation.together(
            partial(situation.launch, "left", model=str(path)),
            partial(situation.launch, "right", model="script-deep"),
        )
        if not (left.running_process.running and right.running_process.running):
            return

        async def job(label: str, on: Worker) -> None:
            await situation.execute(label, on=on, prompt="*", max_tokens=LENGTH, temperature=0.0, seed=1)

        await situation.get("health before the replacement", "/health", on=left)
        await job("left alone", left)
        await job("right alone", right)
        await situation.together(partial(job, "left beside", left), partial(job, "right beside", right))

        other = Path(folder) / "other.gguf"
        shutil.copyfile(await situation.model_path("memory"), other)
        other.replace(path)
        situation.fact("file replaced", True)
        await situation.get("health after the replacement", "/health", on=left)
        await job("after the replacement", left)

    length = await tokens_in(situation, right, BUSY_S)
    live = situation.start("beside the killed", on=right, prompt="*", max_tokens=length // 2, temperature=0.0)
    if await situation.under_way(live, 3):
        situation.fact("neighbour killed at", situation.clock.now())
        await left.signal("SIGKILL")
    await live.done()
    await job("after the killed", right)

    live = situation.start("running", on=right, prompt="*", max_tokens=length, temperature=0.0)
    if not await situation.under_way(live, 3):
        return
    await right.signal("SIGTERM")
    await asyncio.sleep(SIGNAL_S)
    late = situation.start("late", on=right, prompt="*", max_tokens=2, temperature=0.0, within=BUSY_S)
    await live.done()
    await right.exited(BUSY_EXIT_S * situation.scale)
    await late.done()

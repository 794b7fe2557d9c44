"""Processes that a worker started and left behind, those in sessions of their own included.

On Linux the suite is their subreaper, and a mark in the environment that children inherit names the worker they came
from. Who has cleared the environment is found as a descendant: of the worker while it lives, of the suite afterwards.
Elsewhere only descendants of a living worker are found; a process that has detached itself completely is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import psutil

MARK = "M0_CONFORMANCE_WORKER"
_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Make this process the parent of whatever its descendants leave behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[psutil.Process]:
    """All below this process right now."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def marked(mark: str) -> list[psutil.Process]:
    """Processes whose environment holds this mark (Linux; elsewhere none are found)."""
    if sys.platform != "linux":
        return []
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError, psutil.Error):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(psutil.Process(int(entry.name)))
    return found


def kill(processes: list[psutil.Process]) -> int:
    """SIGKILL, and take the exit of those that became ours; how many were alive.

    `psutil.Process` compares start times first, so that a number used again is nobody else's.
    """
    killed = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                killed += 1
            if process.ppid() == os.getpid():
                process.wait(1.0)
    return killed

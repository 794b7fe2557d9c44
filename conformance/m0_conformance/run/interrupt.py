"""Ctrl-C and SIGTERM during a run: the running check ends, workers are brought down, the report says "interrupted".

A second signal means it: KeyboardInterrupt at once, and the exit hook of `targets.process` kills what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_running: set[asyncio.Task[object]] = set()
_asked = False


def asked() -> bool:
    """Whether somebody wants the run to end."""
    return _asked


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, a signal cancels the current task."""
    task = asyncio.current_task()
    if task is None:
        yield
        return
    _running.add(task)
    try:
        yield
    finally:
        _running.discard(task)


@contextlib.contextmanager
def handled(then: Callable[[], None]) -> Iterator[None]:
    """Take SIGINT and SIGTERM over; `then` runs at the first of them."""
    global _asked  # noqa: PLW0603 - signals belong to the process, and so does this flag
    _asked = False

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of signal handlers
        global _asked  # noqa: PLW0603 - a signal handler has no other place
        if _asked:
            raise KeyboardInterrupt
        _asked = True
        then()
        for task in list(_running):
            task.get_loop().call_soon_threadsafe(task.cancel)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

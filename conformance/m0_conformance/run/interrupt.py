"""Ctrl-C, SIGTERM or a limit during a run: the check ends, workers are brought down, the report says "interrupted".

Whatever has not ended `PATIENCE_S` later is left where it is (KeyboardInterrupt) for the report's sake, and the exit
hook of `targets.process` kills what is left. A second signal does the same at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Final

from m0_conformance.targets import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PATIENCE_S: Final = 1.2
"""Between being asked to end and leaving everything as it is; the report is there within 5 s."""
GRACE_S: Final = 0.4
"""Between SIGTERM and SIGKILL of a worker then."""
_TICK_S: Final = 0.25

_running: set[asyncio.Task[object]] = set()
_asked_at: float | None = None
_reason = ""
_forced = False


def asked() -> bool:
    """Whether the run is to end."""
    return _asked_at is not None


def reason() -> str:
    """Why it is to end, in words."""
    return _reason


def _waited() -> float | None:
    """Seconds since the run was asked to end."""
    return None if _asked_at is None else time.monotonic() - _asked_at


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


def leave_be() -> None:
    """The report is being written: no more ticks."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.0)


@contextlib.contextmanager
def handled(then: Callable[[str], None], exceeded: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Take SIGINT, SIGTERM and the limits over; `then` runs with the reason at the first of them."""
    global _asked_at, _forced, _reason
    _asked_at, _reason, _forced = None, "", False

    def end(why: str) -> None:
        global _asked_at, _reason
        _asked_at, _reason = time.monotonic(), why
        process.grace(GRACE_S)
        then(why)
        for task in list(_running):
            task.get_loop().call_soon_threadsafe(task.cancel)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of signal handlers
        if _asked_at is not None:
            raise KeyboardInterrupt
        end("interrupted")

    def tick(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of signal handlers
        global _forced  # noqa: PLW0603 - a signal handler has no other place
        waited = _waited()
        if waited is None:
            why = exceeded()
            if why is not None:
                end(why)
        elif not _forced and waited > PATIENCE_S:
            _forced = True
            leave_be()
            raise KeyboardInterrupt

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if hasattr(signal, "setitimer"):
        handlers[signal.SIGALRM] = tick
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, _TICK_S, _TICK_S)
    try:
        yield
    finally:
        leave_be()
        process.grace(None)
        for number, old in before.items():
            signal.signal(number, old)

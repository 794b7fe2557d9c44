"""SIGTERM, SIGINT and SIGHUP, from the worker's first statement to its last.

One handler for good: to exchange handlers would leave moments with none, and an exception raised out of a handler can
end up anywhere. Before there is something to drain, a signal ends the process where it stands.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _leave(name: str) -> NoReturn:
    os.write(2, f"m0-worker: {name} before the start\n".encode())
    os._exit(0)


def interrupted(name: str) -> NoReturn:
    """The end of a command that had something to finish."""
    os.write(2, f"m0-worker: ended by {name}\n".encode())
    os._exit(1)


class Signals:
    """What the signals do now: `react` is called with the name of each."""

    def __init__(self) -> None:
        self.react: Callable[[str], object] = _leave

    def install(self) -> None:
        """From now on they come here."""
        for number in _NUMBERS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            signal.signal(number, self._handle)

    def ignore(self) -> None:
        """From now on they do nothing: the process is ending, and Python will give its handlers up before it ends."""
        for number in _NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.react(signal.Signals(number).name)

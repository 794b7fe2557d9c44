"""The end of a process that does not come to its end by itself."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Watchdog:
    """Gives up `limit_s` seconds after it was told that the end has begun.

    Its thread waits from the beginning: `begin` is called by signal handlers, which may start no thread.
    """

    def __init__(self, limit_s: float, give_up: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._give_up = give_up
        self._begun: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self) -> None:
        """The time runs from the first call."""
        self._begun.put(None)

    def _watch(self) -> None:
        self._begun.get()
        time.sleep(self._limit_s)
        self._give_up()

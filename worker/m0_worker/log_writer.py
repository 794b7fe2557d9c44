"""Lines for a descriptor whose reader may be slow, stuck or gone: whoever speaks never waits for whoever listens.

A pipe holds 64 KiB; a worker that wrote to it itself would stand still once nobody reads. A thread writes, from a queue
that is bounded in bytes; what does not fit is dropped, counted, and told when there is room again.
"""

from __future__ import annotations

import errno
import io
import os
import select
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BYTES = 1 << 20
# Nobody will ever read again; anything else, such as a full disk, may pass.
_GONE = frozenset({errno.EPIPE, errno.EBADF, errno.EIO, errno.ECONNRESET})


class LogWriter:
    """Writes lines in order. `put` is called by one thread, and by its signal handlers, which may interrupt it."""

    def __init__(self, descriptor: int, on_loss: Callable[[int], str], most_bytes: int = _MOST_BYTES) -> None:
        self._descriptor = descriptor
        self._on_loss = on_loss
        self._most = most_bytes
        # Its `put` may be interrupted by a signal handler that calls it again, which no lock would survive.
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._put = self._taken = 0  # bytes; each is counted by one thread only
        self._lost = 0
        self._failed = 0
        self._torn = False
        self._gone = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Write a line when its time comes; returns at once."""
        if self._gone:
            return
        data = line.encode(errors="backslashreplace")
        waiting = self._put - self._taken
        # After a loss half of the room must be free again, or every other line would tell of one lost.
        if waiting + len(data) > (self._most if self._lost == 0 else self._most // 2):
            self._lost += 1
            return
        self._tell_loss()
        self._queue(data)

    def close(self, limit_s: float) -> bool:
        """Write what is still to be written; False when that takes longer than `limit_s`."""
        if self._thread.is_alive():
            self._tell_loss()
            self._lines.put(None)
            self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _tell_loss(self) -> None:
        lost, self._lost = self._lost + self._failed, 0
        if lost:
            self._failed = 0
            self._queue(self._on_loss(lost).encode())

    def _queue(self, data: bytes) -> None:
        self._put += len(data)
        self._lines.put(data)

    def _work(self) -> None:
        while (data := self._lines.get()) is not None:
            if not self._gone:
                self._write(data)
            self._taken += len(data)

    def _write(self, data: bytes) -> None:
        if self._torn:  # the rest of a line is missing: what follows must not become a part of it
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # whoever shares the pipe made it so
                    select.select([], [self._descriptor], [])
        except OSError as error:
            self._gone = error.errno in _GONE
            self._failed += 1
            self._torn = self._torn or len(left) < len(data)
        else:
            self._torn = False


class ErrorStream(io.TextIOBase):
    """`sys.stderr` over a `LogWriter`: a traceback or a warning of a library stops nobody either."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        """Text, in pieces of any size."""
        self._writer.put(text)
        return len(text)

    def writable(self) -> bool:
        """Yes."""
        return True


def error_writer() -> LogWriter:
    """A writer to stderr."""
    return LogWriter(2, lambda lost: f"m0-worker: {lost} pieces of this output were dropped: nobody read them\n")


def say_error(text: str, limit_s: float = 1.0) -> None:
    """One line on stderr, within a limit."""
    writer = error_writer()
    writer.put(text)
    writer.close(limit_s)

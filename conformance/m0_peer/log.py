"""The log: one JSON object a line on stdout (M0-W-1900), written by a thread of its own.

A pipe that nobody reads fills up after 64 KiB, and the write to it waits. Were that write the event loop's, an unread
log would end /health and every stream. So lines go through a bounded queue; when it is full they are counted and lost.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from m0_peer.arguments import Settings

_ROOM: Final = 4096  # lines
_FLUSH_S: Final = 1.0  # an exit waits this long for a slow reader


def timestamp() -> str:
    """The time now: RFC 3339, UTC, milliseconds, Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Log:
    """Events with the context of M0-W-1900. Callable from any thread, never waits."""

    def __init__(self, settings: Settings) -> None:
        self._context = {
            "worker_id": settings.worker_id,
            "model_ref": str(settings.model),
            "gpu_device": settings.gpu_device,
        }
        self._lines: queue.Queue[str | None] = queue.Queue(_ROOM)
        self._lost = 0
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def event(self, event: str, level: str = "INFO", **fields: object) -> None:
        """Log one event. Never a prompt or generated text, and no figures of performance (M0-W-1901, M0-W-1902)."""
        lost, self._lost = self._lost, 0
        note = {"lines_lost": lost} if lost else {}
        line = {"timestamp": timestamp(), "level": level, "event": event, **self._context, **fields, **note}
        try:
            self._lines.put_nowait(json.dumps(line) + "\n")
        except queue.Full:
            self._lost = lost + 1

    def close(self) -> None:
        """Write what is left, as long as somebody reads."""
        try:
            self._lines.put(None, timeout=_FLUSH_S)
        except queue.Full:
            return
        self._writer.join(_FLUSH_S)

    def _write(self) -> None:
        writing = sys.stdout is not None  # None where descriptor 1 was closed at start
        while (line := self._lines.get()) is not None:
            if writing:
                try:
                    sys.stdout.write(line)
                    sys.stdout.flush()
                except (OSError, ValueError):  # the reader is gone: the worker lives on without a log
                    writing = False

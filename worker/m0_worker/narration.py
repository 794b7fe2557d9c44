"""The worker's log: one JSON object a line on stdout, the events of M0-W-1900.

No line ever holds a prompt or generated text (M0-W-1902): `fingerprint` gives the length and SHA-256 that stand for it.
No line holds performance figures (M0-W-1901), save the byte counts that M0-W-1110 and M0-W-1020 ask for.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from m0_worker.config import WorkerConfig


def timestamp() -> str:
    """The time now: ISO 8601, UTC, milliseconds, with Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fingerprint(name: str, text: str) -> dict[str, object]:
    """Fields that identify a text without telling it: its length in code points and its SHA-256."""
    return {f"{name}_length": len(text), f"{name}_sha256": sha256(text.encode()).hexdigest()}


class Narrator:
    """Writes events, each with the context that M0-W-1900 asks for: worker_id, model_ref, gpu_device."""

    def __init__(self, config: WorkerConfig, stream: TextIO | None = None) -> None:
        self._context = {
            "worker_id": config.worker_id,
            "model_ref": str(config.model),
            "gpu_device": config.gpu_device,
        }
        self._stream: TextIO | None = sys.stdout if stream is None else stream

    def event(self, event: str, level: str = "INFO", /, **fields: object) -> None:
        """Write one line and flush it. A reader that went away ends the log, never the worker."""
        line = {"timestamp": timestamp(), "level": level, "event": event, **self._context, **fields}
        if self._stream is None:
            return
        try:
            self._stream.write(json.dumps(line, ensure_ascii=True, default=str) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # closed pipe, closed file
            self._silence(self._stream)

    def _silence(self, stream: TextIO) -> None:
        """Give up the log. What is still buffered must go somewhere, or Python exits with an error of its own."""
        self._stream = None
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

"""The worker's log: one JSON object a line on stdout, the events of M0-W-1900.

No line ever holds a prompt or generated text (M0-W-1902): `fingerprint` gives the length and SHA-256 that stand for it.
No line holds performance figures (M0-W-1901), save the byte counts that M0-W-1110 and M0-W-1020 ask for.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, TextIO

from m0_worker.log_writer import LogWriter

if TYPE_CHECKING:
    from m0_worker.config import WorkerConfig

# How long the last lines may wait for a reader, when the worker is about to end.
_FLUSH_S = 0.5


def timestamp() -> str:
    """The time now: ISO 8601, UTC, milliseconds, with Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fingerprint(name: str, text: str) -> dict[str, object]:
    """Fields that identify a string without telling it: its length in code points and its SHA-256."""
    return {f"{name}_length": len(text), f"{name}_sha256": sha256(text.encode()).hexdigest()}


class Narrator:
    """Writes events to stdout, or a stream, each with M0-W-1900's context: worker_id, model_ref, gpu_device."""

    def __init__(self, config: WorkerConfig, stream: TextIO | None = None) -> None:
        self._context = {
            "worker_id": config.worker_id,
            "model_ref": str(config.model),
            "gpu_device": config.gpu_device,
        }
        self._stream = stream
        self._writer = LogWriter(1, self._loss) if stream is None else None

    def event(self, event: str, level: str = "INFO", /, **fields: object) -> None:
        """Say one line. It is written by a thread: a reader that is slow, or gone, costs lines and never time."""
        line = self._line(event, level, fields)
        if self._writer is not None:
            self._writer.put(line)
        elif self._stream is not None:
            self._stream.write(line)

    def close(self) -> None:
        """Wait half a second at most for what is not yet written."""
        if self._writer is not None:
            self._writer.close(_FLUSH_S)

    def _loss(self, lost: int) -> str:
        note = "these lines were dropped: nobody read the log, or it could not be written"
        return self._line("log_dropped", "WARN", {"lines": lost, "note": note})

    def _line(self, event: str, level: str, fields: dict[str, object]) -> str:
        line = {"timestamp": timestamp(), "level": level, "event": event, **self._context, **fields}
        return json.dumps(line, ensure_ascii=True, default=str) + "\n"

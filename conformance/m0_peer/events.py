"""The event stream (M0-W-1310 to M0-W-1312, M0-W-1510): started, token*, then end or error, and nothing after.

No I/O: every method returns the bytes of one event.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m0_peer.log import timestamp

if TYPE_CHECKING:
    from m0_peer.errors import Code


def frame(event: str, payload: dict[str, object]) -> bytes:
    """One event: its type in the `event` field, its payload as one line of JSON, and the blank line that ends it."""
    return f"event: {event}\ndata: {json.dumps(payload, ensure_ascii=False, allow_nan=False)}\n\n".encode()


class EventStream:
    """One job's events. It counts the tokens, so that `i` and `tokens_out` cannot disagree."""

    def __init__(self, job_id: str, model: str, seed: int) -> None:
        self._job_id = job_id
        self._model = model
        self._seed = seed
        self.tokens = 0
        self.ended = False

    def started(self) -> bytes:
        """The first event. It tells the seed, which the client cannot know where the worker chose it (M0-W-1030)."""
        named = {"job_id": self._job_id, "model": self._model, "started_at": timestamp(), "seed": self._seed}
        return frame("started", named)

    def token(self, text: str) -> bytes:
        """One token; its text is empty while a character is incomplete."""
        self.tokens += 1
        return frame("token", {"t": text, "i": self.tokens - 1})

    def end(self, seconds: float, reason: str) -> bytes:
        """The terminal event of a job that came to its own end."""
        self.ended = True
        return frame("end", {"tokens_out": self.tokens, "decode_time_ms": round(seconds * 1e3), "stop_reason": reason})

    def error(self, code: Code, message: str) -> bytes:
        """The terminal event of any other job."""
        self.ended = True
        return frame("error", {"code": code.value, "message": message, "retriable": code.retriable})

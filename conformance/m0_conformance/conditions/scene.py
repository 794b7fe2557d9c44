"""What stands before a worker's door: one request, the worker's life so far, and who else is in the house."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(slots=True)
class Past:
    """A worker's life before a request came."""

    jobs: int = 0
    """Jobs that it has accepted."""
    last: str = ""
    """How the job that ended last, or was refused last, ended: end, stop, cancel, disconnect, error, refusal."""
    ids: tuple[str, ...] = ()
    """Their job_ids, oldest first."""


@dataclass
class Scene:
    """One request, as a proxy before the worker sees it; what changes while its stream goes on is kept up to date."""

    headers: tuple[tuple[str, str], ...] = ()
    """As they were written, in their case."""
    body: bytes = b""
    """Without its framing."""
    pieces: int = 1
    """Reads of the socket, with time between them, that the body took."""
    on_connection: int = 1
    """1 for the first request of a connection."""
    past: Past = field(default_factory=Past)
    ahead: int = 0
    """Jobs in the house, running or waiting, when this one came."""
    behind: int = 0
    """Most jobs that have been waiting behind this one."""
    tokens: int = 0
    """Token events of this job before the one at hand."""
    said: str | None = None
    """Text of the token event at hand; None before there is one."""

    @cached_property
    def job(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def header(self, name: str) -> str:
        """Its first value; "" when absent."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def text_of(self, name: str) -> str:
        """A field that is text; "" for any other."""
        value = self.job.get(name)
        return value if isinstance(value, str) else ""

    def number_of(self, name: str) -> float | None:
        """A field that is a number; None for any other."""
        value = self.job.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

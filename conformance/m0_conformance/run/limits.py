"""What a run may cost in total: time, memory of the suite, bytes on disk. A limit per exchange is not one."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from m0_conformance.recording.store import RunStore

DEADLINE_S: Final = 600.0
LONGER: Final = 1.5
"""A run that was given a larger budget may last so many times longer."""
DEVICE_S: Final = 3600.0
"""Of a run that has no budget: on a device, or with a real model."""
MEMORY_BYTES: Final = 1 << 30
DISK_BYTES: Final = 512 << 20


def deadline_s(asked_min: float | None, budget_s: float | None) -> float:
    """Seconds a run may take, from --deadline and the budget."""
    if asked_min is not None:
        return asked_min * 60.0
    return DEVICE_S if budget_s is None else max(DEADLINE_S, budget_s * LONGER)


class Limits:
    """The limits of one run, counted from now."""

    def __init__(self, deadline: float, store: RunStore) -> None:
        self._deadline = deadline
        self._begun = time.monotonic()
        self._store = store
        self._process = psutil.Process()

    def exceeded(self) -> str | None:
        """The first limit that is exceeded, in words."""
        if time.monotonic() - self._begun > self._deadline:
            return f"--deadline {self._deadline / 60:g} min is over"
        if self._store.written > DISK_BYTES:
            return f"the recordings take more than {DISK_BYTES >> 20} MiB"
        with contextlib.suppress(psutil.Error):
            if self._process.memory_info().rss > MEMORY_BYTES:
                return f"the suite takes more than {MEMORY_BYTES >> 20} MiB of memory"
        return None

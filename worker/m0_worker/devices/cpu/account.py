"""Who has how many bytes on the CPU device, and how many are left."""

from __future__ import annotations

from typing import Literal, TypeAlias

import psutil

from m0_worker.devices.interface import Memory, OutOfMemory

Purpose: TypeAlias = Literal["weights", "kv", "intermediates"]


class Account:
    """Bytes in use by purpose, held to a limit where there is one.

    Attributes:
        memory: the bytes in use.
    """

    def __init__(self, limit: int | None) -> None:
        self.memory = Memory()
        self._limit = limit

    def available(self) -> int:
        """Bytes that can still be allocated: up to the limit, or what the system has free."""
        if self._limit is None:
            return int(psutil.virtual_memory().available)
        return max(0, self._limit - self.memory.total)

    def reserve(self, purpose: Purpose, nbytes: int) -> None:
        """Account for an allocation that is about to happen.

        Raises:
            OutOfMemory: it does not fit.
        """
        available = self.available()
        if nbytes > available:
            raise OutOfMemory(purpose, needed=nbytes, available=available)
        setattr(self.memory, purpose, getattr(self.memory, purpose) + nbytes)

    def release(self, purpose: Purpose, nbytes: int) -> None:
        """Take an allocation back."""
        setattr(self.memory, purpose, getattr(self.memory, purpose) - nbytes)

    def close(self) -> None:
        """Forget everything."""
        self.memory = Memory()

"""VRAM by purpose: every byte the worker holds is counted, aligned and given back (M0-W-1011, M0-W-1020, M0-W-1021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from m0_worker.devices.cuda import driver
from m0_worker.devices.interface import Memory, OutOfMemory

if TYPE_CHECKING:
    Purpose = Literal["weights", "kv", "intermediates"]

ALIGNMENT = 256  # bytes; cudaMalloc keeps it, and it is checked (M0-W-1220)


class Buffer:
    """Device memory; ``free()`` or the end of its pool gives it back."""

    __slots__ = ("_pool", "address", "nbytes", "purpose")

    def __init__(self, pool: Pool, address: int, nbytes: int, purpose: Purpose) -> None:
        self._pool = pool
        self.address = address
        self.nbytes = nbytes
        self.purpose: Purpose = purpose

    def free(self) -> None:
        """Give the memory back; a second call does nothing."""
        self._pool.release(self)


class Pool:
    """Allocates device memory and counts it.

    Attributes:
        memory: bytes in use by purpose.
    """

    def __init__(self, limit: int | None) -> None:
        self.memory = Memory()
        self._limit = limit
        self._held: set[Buffer] = set()

    def available(self) -> int:
        """Bytes that can still be allocated: what the device has free, or less under a limit."""
        free = driver.free_bytes()
        return free if self._limit is None else min(free, max(0, self._limit - self.memory.total))

    def allocate(self, nbytes: int, purpose: Purpose) -> Buffer:
        """Memory for ``nbytes`` bytes, aligned to 256.

        Raises:
            OutOfMemory: it does not fit; nothing stays allocated.
        """
        size = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        available = self.available()
        address = driver.allocate(size) if size <= available else None
        if address is None:
            raise OutOfMemory(purpose, needed=size, available=available)
        if address % ALIGNMENT:
            driver.free(address)
            raise RuntimeError(f"the driver returned address {address:#x}, no multiple of {ALIGNMENT}")
        buffer = Buffer(self, address, size, purpose)
        self._held.add(buffer)
        setattr(self.memory, purpose, getattr(self.memory, purpose) + size)
        return buffer

    def release(self, buffer: Buffer) -> None:
        """Free a buffer of this pool."""
        if buffer in self._held:
            self._held.remove(buffer)
            driver.free(buffer.address)
            setattr(self.memory, buffer.purpose, getattr(self.memory, buffer.purpose) - buffer.nbytes)

    def resident(self) -> bool:
        """Whether all weights lie in device memory, with no host pointer (M0-W-1012)."""
        return all(driver.is_device_memory(b.address) for b in self._held if b.purpose == "weights")

    def close(self) -> None:
        """Free everything."""
        for buffer in list(self._held):
            self.release(buffer)

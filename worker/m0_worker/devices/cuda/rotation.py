"""Rotary tables in VRAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m0_worker.devices.cuda import driver

if TYPE_CHECKING:
    from typing import Literal

    from m0_worker.devices.cuda.memory import Buffer, Pool
    from m0_worker.devices.interface import Rotation


class CudaRotation:
    """Rows of n_rot/2 cosines and as many sines, by position; implements the interface's Table.

    Attributes:
        slot: index into the job state's tables, through which kernels find a table that has grown.
    """

    def __init__(self, rotation: Rotation, slot: int, pool: Pool) -> None:
        self._rotation = rotation
        self._pool = pool
        self._buffer: Buffer | None = None
        self._n = 0
        self.slot = slot
        self.n_rot = rotation.n_rot
        self.pairing: Literal["norm", "neox"] = rotation.pairing

    @property
    def address(self) -> int:
        """Where the table lies now."""
        return 0 if self._buffer is None else self._buffer.address

    def grow(self, n_positions: int, stream: Any) -> None:
        """Cover positions 0 to n_positions - 1.

        Raises:
            OutOfMemory: no room for the larger table; the old one stays.
        """
        if n_positions <= self._n:
            return
        n = max(n_positions, 2 * self._n)
        rows = np.ascontiguousarray(np.concatenate(self._rotation.table(0, n), axis=1), np.float32)  # (n, n_rot)
        buffer = self._pool.allocate(rows.nbytes, "intermediates")
        stream.synchronize()
        driver.upload(buffer.address, rows)
        if self._buffer is not None:
            self._buffer.free()
        self._buffer = buffer
        self._n = n

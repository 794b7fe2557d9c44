"""Device memory that prompt passes use again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m0_worker.devices.cuda.memory import Buffer, Pool


class Arena:
    """Memory of passes: two halves that layers use in turn, so that a layer still finds what the one before it left."""

    def __init__(self, pool: Pool) -> None:
        self.buffer: Buffer | None = None
        self.peak = 0  # bytes of a half that the hungriest layer needs
        self._pool = pool
        self._used = 0
        self._half = 0
        self._spills = False
        self._spilled: list[Buffer] = []

    def begin(self, *, spills: bool) -> None:
        """A pass starts. One that is watched keeps what others never write: where it spills, it gets more memory."""
        self._used = self._half = 0
        self._spills = spills
        self.release()

    def release(self) -> None:
        """Give back what the last pass spilled; waits until the device is done with it."""
        while self._spilled:
            self._spilled.pop().free()

    def flip(self) -> None:
        """The next layer starts: what the layer before the last left is forgotten."""
        self._used = 0
        self._half ^= 1

    def take(self, nbytes: int) -> int:
        """The next piece; only its size counts as long as there is no buffer."""
        at = self._used
        self._used += -(-nbytes // 256) * 256
        self.peak = max(self.peak, self._used)
        if self.buffer is None:
            return at + 256
        size = self.buffer.nbytes // 2 // 256 * 256
        if self._used <= size:
            return self.buffer.address + self._half * size + at
        if not self._spills:
            raise RuntimeError(f"a layer needs {self._used} bytes, more than the {size} set aside")
        self._used = at  # later, smaller pieces may still fit
        self._spilled.append(self._pool.allocate(nbytes, "intermediates"))
        return self._spilled[-1].address

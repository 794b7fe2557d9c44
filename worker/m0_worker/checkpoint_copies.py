"""Copies of checkpoints in the order they were taken, in memory whose pages are there before a job begins.

A decode step hands over its logits and goes on; they must be copied, 0.6 MB for a vocabulary of 152k. Into fresh memory
that takes 0.4 ms, nearly all of it the system's for 150 new pages; into memory already touched, 0.05 ms.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Origin: TypeAlias = "tuple[float, int, str, int, list[int]]"
"""When the pass began (Unix seconds), the position after its last token, name, layer, input tokens since the last
checkpoint. A plain tuple, for a decode step has no microsecond to spare."""

_ALIGNMENT = 64


class Taker(Protocol):
    """Whose copies these are."""

    def take(self, origin: Origin, values: NDArray[Any]) -> None:
        """Turn one checkpoint into lines; ``values`` are gone afterwards."""
        ...


class Copies:
    """First in, first out, in a ring of ``size`` bytes; what does not fit pushes the oldest out to their taker."""

    def __init__(self, size: int) -> None:
        self._memory = np.empty(size, np.uint8)
        self._memory.fill(0)  # the pages, now
        self._kept: deque[tuple[int, Taker, Origin, NDArray[Any]]] = deque()  # each with where it starts
        self._next = 0
        self._limit = size  # copies end here or before it: the end of the ring, or the oldest copy once it is round

    def keep(self, taker: Taker, origin: Origin, array: NDArray[Any]) -> None:
        """Copy ``array``; one larger than the ring is turned into lines at once."""
        start = self._next
        stop = start + array.nbytes
        if stop > self._limit:
            start = self._room(array.nbytes)
            if start < 0:
                taker.take(origin, array)
                return
            stop = start + array.nbytes
        copy = np.ndarray(array.shape, array.dtype, self._memory, start)
        copy[...] = array
        self._kept.append((start, taker, origin, copy))
        self._next = stop + -stop % _ALIGNMENT

    def pop(self) -> None:
        """Hand the oldest copy to its taker."""
        _, taker, origin, values = self._kept.popleft()
        taker.take(origin, values)
        if not self._kept:
            self._next, self._limit = 0, len(self._memory)
        elif (oldest := self._kept[0][0]) <= self._kept[-1][0]:
            self._limit = len(self._memory)
        else:
            self._limit = oldest

    def _room(self, size: int) -> int:
        """Where ``size`` bytes go, after the oldest have left as far as need be; -1 if they never fit."""
        if size > len(self._memory):
            while self._kept:
                self.pop()
            return -1
        while self._next + size > self._limit:
            oldest = self._kept[0][0]
            if self._limit == len(self._memory) and size <= oldest:
                self._next, self._limit = 0, oldest  # round
            else:
                self.pop()
        return self._next

"""Greedy merging of neighbours: the core that byte-pair encoding and SentencePiece share.

Both start from single characters and join the best pair of neighbours, leftmost first among equals, until no pair can
be joined; they differ in what makes a pair good. A heap of candidates and a doubly linked list of symbols make it
O(n log n), so that 32,768 equal letters take a fraction of a second. (Sennrich et al. 2016; the agenda of
SentencePiece's bpe_model.)
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def merge(symbols: list[str], priority_of: Callable[[str, str], float | None]) -> list[str]:
    """Join neighbours until none can be joined.

    Args:
        symbols: the characters; changed in place.
        priority_of: the pair's priority, lowest first, or None where the pair must not be joined.

    Returns:
        The joined symbols in order.
    """
    count = len(symbols)
    following = list(range(1, count + 1))
    previous = list(range(-1, count - 1))
    # The priority that the pair starting at each symbol has now; a heap entry that differs from it is out of date.
    current: list[float | None] = [None] * count
    heap: list[tuple[float, int]] = []
    for left in range(count - 1):
        priority = priority_of(symbols[left], symbols[left + 1])
        if priority is not None:
            current[left] = priority
            heap.append((priority, left))
    heapify(heap)
    # Two pairs can share a priority (equal scores), so that an entry may seem up to date twice: consuming it once is
    # enough, because the pair it stands for is then joined at its own priority either way.
    while heap:
        priority, left = heappop(heap)
        if current[left] != priority:
            continue
        right = following[left]
        symbols[left] += symbols[right]
        symbols[right] = ""
        current[right] = None
        after = following[left] = following[right]
        if after < count:
            previous[after] = left
            joined = current[left] = priority_of(symbols[left], symbols[after])
            if joined is not None:
                heappush(heap, (joined, left))
        else:
            current[left] = None
        before = previous[left]
        if before >= 0:
            joined = current[before] = priority_of(symbols[before], symbols[left])
            if joined is not None:
                heappush(heap, (joined, before))
    return [symbol for symbol in symbols if symbol]

"""Prompt passes that nobody watches: each length is captured once as a graph, which starts them faster than Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m0_worker.devices.cuda import driver

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# Rows of a pass are a multiple of this: attention takes as many at once, and products as many or twice as many.
ROWS = 64


@dataclass(slots=True)
class _Pass:
    narrow: bool
    first: int  # address of the first token's row behind the last layer
    graph: Any = None


class Passes:
    """A model's passes, by rows.

    Args:
        stream: that they are enqueued on.
        enqueue: enqueues a pass of so many rows, with narrow products or not, yielding between layers; returns where
            the first row will be.
        row_bytes: from one row to the next.
    """

    def __init__(self, stream: Any, enqueue: Callable[[int, bool], Generator[None, None, int]], row_bytes: int) -> None:
        self._stream = stream
        self._enqueue = enqueue
        self._row_bytes = row_bytes
        self._known: dict[int, _Pass] = {}
        self._tables: list[int] = []

    def run(self, n: int, tables: list[int], *, narrow: bool) -> Generator[None, None, int]:
        """Enqueue a pass over n tokens, padded; returns where the last token's row will be.

        The first pass of a length loads kernels, which a capture must not see, and yields between layers; the second is
        captured, and later ones replay it.

        Args:
            n: tokens.
            tables: rotary tables that graphs read; one that has grown lies elsewhere, and graphs are captured anew.
            narrow: whether products of few tokens have blocks of their own.
        """
        if self._tables != tables:
            self._tables = tables
            self._known.clear()
        rows = -(-n // ROWS) * ROWS
        narrow = narrow and rows <= ROWS
        known = self._known.get(rows)
        if known is None or known.narrow != narrow:
            first = yield from self._enqueue(rows, narrow)
            known = self._known[rows] = _Pass(narrow, first)
        else:
            if known.graph is None:
                known.graph = driver.capture(self._stream, lambda: _run(self._enqueue(rows, narrow)))
            known.graph.launch(self._stream)
            yield
        return known.first + (n - 1) * self._row_bytes


def _run(generator: Generator[None, None, int]) -> None:
    for _ in generator:
        pass

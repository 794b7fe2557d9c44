"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere. Writes to stderr only."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, TextIO

from m0_conformance.judging.finding import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.judging.finding import Finding

WIDTH = 28
LINE_EVERY = 25
"""Without a terminal: one line per so many checks."""
_BAD = frozenset({Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.BLOCKED})


class Progress:
    """Counts checks and shows the broken clauses as they are found."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._begin = time.monotonic()
        self.total = 0
        self.done = 0
        self.bad = 0
        self.times: Counter[tuple[str, str]] = Counter()
        """How often each deviation was found: it is told once, the report counts."""

    def say(self, sentence: str) -> None:
        """One line that stays."""
        self._clear()
        self._out.write(sentence + "\n")
        self._out.flush()

    def check(self, name: str, status: Status, broken: Sequence[Finding]) -> None:
        """A check is done."""
        self.done += 1
        if status in _BAD:
            self.bad += 1
        for finding in broken:
            known = (finding.clause, finding.key)
            self.times[known] += 1
            if self.times[known] == 1:
                self.say(f"  FAIL {finding.clause}: {finding.message}  [{name}]")
        if self._live:
            self._draw(name)
        elif self.done % LINE_EVERY == 0 or self.done == self.total:
            self.say(f"{self.done} of {self.total} checks, {self.bad} with trouble, {self.seconds:.0f} s")

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._begin

    def _draw(self, name: str) -> None:
        filled = WIDTH * self.done // max(self.total, 1)
        bar = "█" * filled + "░" * (WIDTH - filled)
        text = f"{bar} {self.done}/{self.total}  {self.seconds:.0f} s  {name}"
        self._out.write("\r\x1b[2K" + text[:110])
        self._out.flush()

    def _clear(self) -> None:
        if self._live:
            self._out.write("\r\x1b[2K")

    def end(self) -> None:
        """Leave the terminal as it was."""
        self._clear()
        self._out.flush()

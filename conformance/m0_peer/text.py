"""From a job's token bytes to its texts: whole characters (M0-W-1362), and nothing of a stop string (M0-W-1422)."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class StopFinder:
    """Lets text through until a stop string is complete, which may begin and end in the middle of tokens.

    The first to be complete wins, of those that end together the longest: a rule that does not see where tokens end.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """Add text, return what is certain to come before any stop string."""
        text = self._held + text
        self._held = ""
        hits = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if hits:
            _, start, self.found = min(hits)
            return text[:start]
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                self._held = text[-length:]
                return text[:-length]
        return text

    def rest(self) -> str:
        """The text held back, once it is certain that nothing follows."""
        return self._held

    @property
    def holding(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)


def texts(pieces: Iterable[bytes], stops: StopFinder) -> Iterator[str]:
    """One text for each token, empty while its character is incomplete; ends early once a stop string is complete.

    Bytes that can become no character turn into U+FFFD; a character that the end cuts off is dropped. Where a token's
    text may begin a stop string, the token waits for the next one: should the job end there, the text is still its own.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    waiting: str | None = None
    for piece in pieces:
        text = stops.feed(decoder.decode(piece))
        if waiting is not None:
            yield waiting
        waiting = text
        if stops.found:
            break
        if not stops.holding:
            yield waiting
            waiting = None
    if waiting is not None:
        yield waiting + stops.rest()

"""Stop strings, matched on text: a match may begin and end in the middle of tokens (reading E-STOP1, level A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopMatcher:
    """Lets text through until a stop string appears; the stop string itself is never let through.

    Text that may be the beginning of a stop string is withheld until more text decides. Of several stop strings the one
    that is complete first wins, and of those that end together the longest: a rule that does not depend on how the text
    was cut into tokens.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.matched: str | None = None

    @property
    def holding(self) -> bool:
        """True while some text is withheld."""
        return bool(self._held)

    def feed(self, text: str) -> str:
        """Add text; return what may be let through. After a match `matched` names the stop string."""
        if not self._stops or not text:
            return text
        text = self._held + text
        hits = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if hits:
            _, start, self.matched = min(hits)
            self._held = ""
            return text[:start]
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The withheld text, once nothing can follow it any more."""
        held, self._held = self._held, ""
        return held

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0

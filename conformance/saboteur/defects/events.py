"""Which events come, in which order, how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.saboteur.defect import Defect, Event

if TYPE_CHECKING:
    from conformance.saboteur.http import Request


class NoTerminal(Defect):
    """Silent end of the stream."""

    name = "no-terminal"
    about = "The stream ends without end or error."
    kills = ("M0-W-1311/one-terminal",)
    source = "known defect 5; lemonade #3448, litellm #32159"

    def event(self, request: Request, event: Event) -> list[Event]:
        """Swallow the terminal event."""
        return [] if event.terminal else [event]


class TwoTerminals(Defect):
    """A second end."""

    name = "two-terminals"
    about = "After end comes a second end."
    kills = ("M0-W-1311/one-terminal",)
    source = "mistral.rs #1874"

    def event(self, request: Request, event: Event) -> list[Event]:
        """Say it twice."""
        return [event, event] if event.name == "end" else [event]

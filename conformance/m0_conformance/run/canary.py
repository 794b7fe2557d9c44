"""Between groups: does the worker still say what it said before? Shows which group of checks poisoned it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judging.streams import stream_of
from m0_conformance.run.situation import Situation

if TYPE_CHECKING:
    from m0_conformance.run.harness import Harness
    from m0_conformance.run.situation import Target

CHECK = "canary"
LENGTH = 6


class Canary:
    """Sings the same greedy prompt; the first song of each worker is the tune."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._tunes: dict[tuple[str, int], list[str]] = {}

    async def sing(self, target: Target, after: str) -> str | None:
        """One short job and GET /health; a sentence when the worker changed since its first song, else None."""
        situation = Situation(self._harness, f"{CHECK}[{after}]", (), target)
        try:
            return await self._song(situation, target, after)
        finally:
            self._harness.keep(await situation.finish())

    async def _song(self, situation: Situation, target: Target, after: str) -> str | None:
        health = await situation.get("health", "/health")
        live = situation.start("song", max_tokens=LENGTH, temperature=0.0, seed=1, within=20.0)
        stream = stream_of(await live.live.done())
        if health.status != 200 or stream.terminal is None:
            return f"after {after} the worker no longer answers: health {health.status}, stream {stream.exchange.end}"
        tune = self._tunes.setdefault(target.address, stream.pieces)
        if tune != stream.pieces:
            return f"after {after} the same greedy prompt gives other tokens: {stream.pieces!r}, before {tune!r}"
        return None

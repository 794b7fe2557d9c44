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
    """Sends the same greedy prompt between groups; a worker must go on saying what it said first."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._first: dict[tuple[str, int], list[str]] = {}

    async def compare(self, target: Target, after: str) -> str | None:
        """One short job and GET /health; a sentence when the worker changed since its first answer, else None."""
        situation = Situation(self._harness, f"{CHECK}[{after}]", (), target)
        try:
            return await self._compare(situation, target, after)
        finally:
            self._harness.keep(await situation.finish())

    async def _compare(self, situation: Situation, target: Target, after: str) -> str | None:
        prompt = situation.prompt()  # a model without this one is not asked for anything
        health = await situation.get("health", "/health")
        live = situation.start("canary", prompt=prompt, max_tokens=LENGTH, temperature=0.0, seed=1, within=20.0)
        stream = stream_of(await live.live.done())
        if health.status != 200 or stream.terminal is None:
            return f"after {after} the worker no longer answers: health {health.status}, stream {stream.exchange.end}"
        first = self._first.setdefault(target.address, stream.pieces)
        if first != stream.pieces:
            return f"after {after} the same greedy prompt gives other tokens: {stream.pieces!r}, before {first!r}"
        return None

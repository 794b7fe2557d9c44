"""Checks of the event stream: content type, SSE framing, order of events, end of the stream."""

from __future__ import annotations

from m0_conformance.run.situation import Situation, repeated, requirement


@repeated()
@requirement(
    "M0-W-1300/streams",
    "M0-W-1310/event-names",
    "M0-W-1310/event-line",
    "M0-W-1310/sse-grammar",
    "M0-W-1310/last-event-complete",
    "M0-W-1310/utf8-bytes",
    "M0-W-1311/started-first",
    "M0-W-1311/started-once",
    "M0-W-1311/one-terminal",
    "M0-W-1311/nothing-after-terminal",
    "M0-W-1311/stream-closes",
)
async def test_ordinary_streams(situation: Situation) -> None:
    """Four jobs of different lengths and temperatures, each to its end."""
    await situation.get("health", "/health")
    length = situation.pace.shorter(24, 12, 2.0)
    await situation.execute("one token", max_tokens=1)
    await situation.execute("greedy", max_tokens=length, temperature=0.0)
    await situation.execute("warm", max_tokens=length, temperature=1.0, seed=7)
    await situation.execute("characters", prompt=situation.prompt("utf8"), max_tokens=length, temperature=0.0)

"""Checks of what the events say: fields of started, token, end and error."""

from __future__ import annotations

from m0_conformance.run.situation import Situation, repeated, requirement

LONG = 2048


@repeated()
@requirement("M0-W-1312/error-fields", "M0-W-1500/code-set", "M0-W-1510/retriable")
async def test_an_error_event(situation: Situation) -> None:
    """The one error event that every worker can be brought to: a cancelled job's."""
    live = situation.start("cancelled", max_tokens=LONG, temperature=0.0)
    await live.tokens(2)
    await situation.cancel("cancel", live.job_id)
    if not await live.terminal(10.0 * situation.scale):
        await live.hang_up()


@repeated()
@requirement(
    "M0-W-1312/json-object",
    "M0-W-1312/started-fields",
    "M0-W-1312/started-job-id",
    "M0-W-1312/started-model",
    "M0-W-1312/started-at-format",
    "M0-W-1312/started-at-now",
    "M0-W-1312/token-fields",
    "M0-W-1312/token-index",
    "M0-W-1312/end-fields",
    "M0-W-1312/end-tokens-out",
    "M0-W-1312/end-decode-time",
)
async def test_fields_of_ordinary_streams(situation: Situation) -> None:
    """Jobs of one and of many tokens, greedy and drawn, and one of many-byte characters."""
    await situation.get("health", "/health")
    await situation.execute("one token", max_tokens=1)
    await situation.execute("greedy", max_tokens=24, temperature=0.0)
    await situation.execute("warm", max_tokens=24, temperature=1.0, seed=7)
    await situation.execute("characters", prompt=situation.prompt("utf8"), max_tokens=24, temperature=0.0)

"""Checks of what the events say: fields of started, token, end and error."""

from __future__ import annotations

from m0_conformance.run.situation import Situation, requirement

LONG = 2048


@requirement("M0-W-1312/error-fields", "M0-W-1500/code-set", "M0-W-1510/retriable")
async def test_an_error_event(situation: Situation) -> None:
    """The one error event that every worker can be brought to: a cancelled job's."""
    live = situation.start("cancelled", max_tokens=LONG, temperature=0.0)
    await live.tokens(2)
    await situation.cancel("cancel", live.job_id)
    if not await live.terminal(10.0 * situation.scale):
        await live.hang_up()

"""Checks of a job from its first to its last token: length, pace, /health meanwhile, one model for life."""

from __future__ import annotations

import asyncio

from m0_conformance.run.situation import OMIT, OutOfReach, Situation, launch, repeated, requirement

LONG = 2048
POLLS = 40
SHORTEST = 100
LASTS_S = 8.0
"""Of a slow worker's long job."""


@repeated()
@requirement("M0-W-1300/max-tokens-bound", "M0-W-1300/max-tokens-prefix", "M0-SYS-6.3.1/valid-job-ends")
async def test_lengths(situation: Situation) -> None:
    """Greedy jobs of different lengths."""
    for count, label in ((24, "longer"), (1, "shorter"), (7, "shorter"), (23, "shorter"), (24, "longer")):
        await situation.execute(label, max_tokens=count, temperature=0.0)
    for seed in range(3):
        await situation.execute("ordinary", max_tokens=8 + seed, temperature=0.5 * seed, seed=seed)


@repeated()
@requirement("M0-W-1300/max-tokens-reached", "M0-W-1311/no-tokens")
@launch("script")
async def test_exact_lengths(situation: Situation) -> None:
    """A model that never ends by itself, and one that ends at once."""
    for count in (1, 2, 17, 100):
        await situation.execute("endless", max_tokens=count, temperature=0.0)
    await situation.execute("ends at once", prompt=situation.prompt("empty"), max_tokens=16, temperature=0.0)


@requirement("M0-SYS-6.3.1/incremental", "M0-W-1320/while-generating")
async def test_long_generation(situation: Situation) -> None:
    """A long job, and /health again and again while it runs."""
    length = max(SHORTEST, min(LONG, situation.pace.tokens_in(LASTS_S)))
    live = situation.start("long", max_tokens=length, temperature=0.0)
    await situation.under_way(live, 2)
    for _ in range(POLLS):
        if live.live.ended:
            break
        await situation.get("meanwhile", "/health")
        await asyncio.sleep(0.02)
    if not await live.terminal(60.0 * situation.scale):
        await live.hang_up()


@requirement("M0-W-1300/max-tokens-default")
async def test_length_that_nobody_asked_for(situation: Situation) -> None:
    """A job without max_tokens, of a model that never ends by itself."""
    if situation.probe is None:
        raise OutOfReach("the model may end by itself before the default is reached; needs --worker-command")
    situation.fact("endless", value=True)
    patience = 2.0 * situation.pace.seconds(LONG) + 30.0
    live = situation.start("default", max_tokens=OMIT, temperature=0.0, within=patience)
    if not await live.terminal(patience * situation.scale):
        await live.hang_up()


@requirement("M0-W-1001/model-constant")
async def test_one_model_for_life(situation: Situation) -> None:
    """Health and jobs in turn."""
    for number in range(3):
        await situation.get("identity", "/health")
        await situation.execute("job", max_tokens=2 + number, seed=number)
    await situation.get("identity", "/health")

"""Checks of equal jobs give equal tokens, and no job leaves a trace in the next."""

from __future__ import annotations

from m0_conformance.run.situation import OutOfReach, Situation, launch, repeated, requirement

HAIKU = "Write a haiku about GPU computing"
OVERFLOW = 32768
"""Characters that share no token in any of our vocabularies, so more tokens than the probe's context has."""


@repeated()
@requirement("M0-SYS-2.3.1/greedy-repeat", "M0-W-1826/identical-tokens")
async def test_greedy_repeats(situation: Situation) -> None:
    """Three runs at temperature 0 with seed 42, with a different job before the last."""
    for number in range(3):
        await situation.execute("greedy 42", temperature=0.0, seed=42, max_tokens=50)
        if number == 1:
            await situation.execute("between", prompt="Something else entirely: 1 2 3", temperature=1.0, max_tokens=9)


@requirement("M0-W-1800/completes", "M0-W-1800/repeats")
async def test_haiku(situation: Situation) -> None:
    """The spec's haiku job, twice; what a small model writes is nobody's fault, so nothing reads the poem."""
    prompt = HAIKU if situation.probe is None else situation.prompt()
    for number in range(2):
        await situation.execute("haiku", prompt=prompt, max_tokens=50, temperature=0.7, seed=42)
        if number == 0:
            await situation.execute("between", max_tokens=5, temperature=2.0)


@requirement("M0-W-1800/repeats", "M0-SYS-2.3.1/greedy-repeat")
@launch("dice")
async def test_dice_repeat(situation: Situation) -> None:
    """The same two jobs where every token is drawn."""
    for number in range(3):
        await situation.execute("haiku", prompt="throw", max_tokens=50, temperature=0.7, seed=42)
        await situation.execute("greedy 42", prompt="throw", temperature=0.0, seed=42, max_tokens=50)
        await situation.execute("between", prompt="throw", max_tokens=3 + number, temperature=2.0)


@requirement("M0-SYS-2.3.1/no-leak")
@launch("memory")
async def test_no_memory_of_earlier_jobs(situation: Situation) -> None:
    """The memory probe says the most frequent character it has seen; each job must see its own prompt only."""
    if (situation.probe or {}).get("kind") != "memory":
        raise OutOfReach("needs the memory probe: --worker-command")
    letters = (situation.probe or {})["alphabet"][:5]
    for number, (letter, count) in enumerate(zip(letters, (40, 5, 2, 20, 1), strict=True)):
        prompt = letter * count
        await situation.execute(f"memory {number}", prompt=prompt, max_tokens=6, temperature=0.0)


@requirement("M0-W-1825/context-overflow", "M0-W-1825/recovers")
@launch("script")
async def test_more_context_than_there_is(situation: Situation) -> None:
    """A prompt within M0's limit of characters that the model's context cannot hold; then an ordinary job."""
    context = (situation.probe or {}).get("context", 0)
    if not 0 < context < OVERFLOW:
        raise OutOfReach(
            "the model's context is not known to be smaller than the longest prompt; needs --worker-command"
        )
    await situation.execute("before", max_tokens=12, temperature=0.0)
    text = "".join(chr(33 + (7 * i + i // 90) % 90) for i in range(OVERFLOW))
    await situation.execute("overflow", prompt=text, max_tokens=2048, temperature=0.0)
    await situation.execute("after", max_tokens=12, temperature=0.0)

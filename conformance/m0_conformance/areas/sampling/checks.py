"""Checks of seed, temperature, top-k, top-p, min-p and penalty, seen in the odds of known dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.areas.sampling.judge import stated_seed
from m0_conformance.judging.answers import health_body
from m0_conformance.run.situation import OMIT, OutOfReach, Situation, launch, repeated, requirement

if TYPE_CHECKING:
    from m0_conformance.judging.streams import Stream


THROWS = 1024
"""Tokens of a stream whose frequencies are judged: the rarest face judged has odds of 1 in 70."""
ENOUGH = 320
"""Throws in which the rarest face that a cut leaves falls a dozen times."""
LASTS_S = 12.0
SHORT = 24
"""Tokens of a run whose text is compared, and of one in a hurry."""
SHORTEST = 8
SEEDS = (0, 1, 42, 2**53 + 1, 2**64 - 1)
HOT = 2.0


def dice(situation: Situation) -> None:
    """Note the odds for the judges, and end the check on a model that is not the dice probe."""
    probe = situation.probe or {}
    texts = [bytes.fromhex(token).decode() for token in probe.get("tokens", [])]
    situation.fact("faces", dict(zip(texts, probe.get("logits", []), strict=True)))


def varies(situation: Situation) -> None:
    """End the check where the default probe says the same at every temperature: the dice show these clauses there."""
    if situation.probe is not None:
        raise OutOfReach("the default probe says the same at every temperature; the dice probe shows this")


async def throw(situation: Situation, label: str, throws: int = THROWS, **fields: Any) -> Stream:
    """A long stream of one setting; a slow worker's is shorter."""
    length = situation.pace.shorter(throws, ENOUGH, LASTS_S)
    return await situation.execute(label, **{"prompt": "throw", "max_tokens": length, "seed": 11, **fields})


@repeated("after", "company", "json", "names", "media", "framing", "job-id", "numbers", "seed")
@requirement("M0-W-1032/unscaled-at-one", "M0-W-1032/scales")
@launch("dice")
async def test_temperature_scales_the_odds(situation: Situation) -> None:
    """Temperatures 0.5, 1 and 2."""
    dice(situation)
    for temperature in (0.5, 1.0, 2.0):
        await throw(situation, f"odds at {temperature}", temperature=temperature)


@repeated("after", "company", "json", "names", "media", "framing", "job-id", "numbers", "seed")
@requirement("M0-W-1421/top-k-cut", "M0-W-1421/top-p-cut", "M0-W-1421/temperature-first")
@launch("dice")
async def test_cuts(situation: Situation) -> None:
    """Which faces fall with top_k and top_p."""
    dice(situation)
    await throw(situation, "top_k cut", temperature=1.0, top_k=3, throws=400)
    await throw(situation, "top_p cut", temperature=1.0, top_p=0.8, throws=400)
    await throw(situation, "hot top_p cut", temperature=HOT, top_p=0.9, throws=400)


@repeated("after", "company", "json", "names", "media", "framing", "job-id", "numbers", "seed")
@requirement("M0-W-1421/penalty-effect")
@launch("dice")
async def test_penalty(situation: Situation) -> None:
    """The commonest face with penalties 0.5, 1 and 2."""
    dice(situation)
    for penalty in (0.5, 1.0, 2.0):
        await throw(situation, f"penalty {penalty}", temperature=1.0, repetition_penalty=penalty, throws=500)


async def relations(situation: Situation) -> None:
    """Runs whose texts stand in known relations, whatever the model."""
    health = await situation.get("health", "/health")
    prompt = "throw" if situation.probe is not None else situation.prompt()
    common: dict[str, Any] = {"max_tokens": situation.pace.shorter(SHORT, SHORTEST, 2.0), "prompt": prompt}
    for seed in SEEDS:
        await situation.execute("greedy", temperature=0.0, seed=seed, **common)
    for seed in SEEDS:
        await situation.execute("hot", temperature=HOT, seed=seed, **common)
    for number in range(5):
        await situation.execute("hot without seed", temperature=HOT, seed=OMIT, **common)
        if number == 0:
            await situation.execute("same seed", temperature=1.5, seed=7, **common)
    await situation.execute("same seed", temperature=1.5, seed=7, **common)
    await situation.execute("top_k one", temperature=HOT, top_k=1, seed=3, **common)
    await situation.execute("top_p zero", temperature=HOT, top_p=0.0, seed=3, **common)
    await situation.execute("top_p nearly zero", temperature=HOT, top_p=1e-6, seed=3, **common)
    vocabulary = (health_body(health) or {}).get("vocab_size")
    await situation.execute("top_k off", temperature=1.0, top_k=0, seed=5, **common)
    if isinstance(vocabulary, int):
        await situation.execute("top_k all", temperature=1.0, top_k=vocabulary, seed=5, **common)
    await situation.execute("min_p zero", temperature=1.0, top_k=0, min_p=0.0, seed=5, **common)
    for value in (0.5, 1.0, -1.0, 7, "x", None):
        await situation.execute("min_p odd", temperature=1.0, min_p=value, **common)
    for temperature in (0.0, 1.0):
        await situation.execute("penalty zero", temperature=temperature, repetition_penalty=0.0, **common)
    seedless = await situation.execute("replay", temperature=HOT, seed=OMIT, **common)
    chosen = stated_seed(seedless)
    if chosen is not None:
        await situation.execute("replayed", temperature=HOT, seed=chosen, **common)


RELATIONS = (
    "M0-W-1030/same-seed",
    "M0-W-1030/different-seeds",
    "M0-W-1030/seed-omitted-varies",
    "M0-W-1030/seed-reported",
    "M0-W-1030/seed-replays",
    "M0-W-1032/greedy-any-seed",
    "M0-W-1032/applies",
    "M0-W-1421/top-k-one",
    "M0-W-1421/top-k-off",
    "M0-W-1421/top-p-zero",
    "M0-W-1421/penalty-zero",
    "M0-W-1421/min-p-zero",
)


@repeated("after", "company", "json", "names", "media", "framing", "job-id", "numbers", "seed")
@requirement(*RELATIONS)
@launch("dice")
async def test_relations_on_dice(situation: Situation) -> None:
    """Where every setting matters in every token."""
    await relations(situation)


@requirement(*RELATIONS)
async def test_relations_on_any_model(situation: Situation) -> None:
    """On the model behind a URL."""
    varies(situation)
    await relations(situation)

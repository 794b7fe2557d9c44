"""Checks of how tokens are drawn where parameters come together, and of what a seed decides."""

from __future__ import annotations

from typing import Any

from m0_conformance.run.situation import OutOfReach, Situation, launch, repeated, requirement

THROWS = 400
"""Tokens of a stream whose frequencies are judged."""
SEEDS = (0, 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 2**32, 2**64 - 2, 2**64 - 1)
"""Neighbours across every width that a number may be squeezed through."""
STREAM = 96
TOGETHER: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0, "top_k": 4, "top_p": 0.8},
    {"temperature": 1.0, "top_k": 2, "top_p": 0.85},
    {"temperature": 2.0, "top_k": 5},
    {"temperature": 2.0, "top_k": 6, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 2, "top_p": 0.95},
    {"temperature": 0.5, "top_k": 3},
    {"temperature": 0.5, "top_p": 0.8},
)
"""Chosen so that whether top_p renormalizes what top_k left makes no difference: the spec does not say."""


def dice(situation: Situation) -> None:
    """Note the odds for the judges, and end the check on a model that is not the dice probe."""
    probe = situation.probe or {}
    if probe.get("kind") != "dice":
        raise OutOfReach("needs the dice probe: --worker-command")
    texts = [bytes.fromhex(token).decode() for token in probe["tokens"]]
    situation.fact("faces", dict(zip(texts, probe["logits"], strict=True)))


@repeated("after", "company", "json", "names", "media", "framing", "job-id", "numbers", rounds=2)
@requirement(
    "M0-W-1032/unscaled-at-one",
    "M0-W-1032/scales",
    "M0-W-1421/top-k-cut",
    "M0-W-1421/top-p-cut",
    "M0-W-1421/temperature-first",
)
@launch("dice")
async def test_parameters_together(situation: Situation) -> None:
    """Temperature, top_k and top_p in pairs and all three, with seeds from all over their range."""
    dice(situation)
    for number, fields in enumerate(TOGETHER):
        await situation.execute(
            "together", prompt="throw", max_tokens=THROWS, seed=SEEDS[number % len(SEEDS)], **fields
        )


@requirement("M0-W-1030/same-seed", "M0-W-1030/every-bit")
@launch("dice")
async def test_seeds_of_every_size(situation: Situation) -> None:
    """Long streams of seeds that differ in one bit, each twice, the second time in another order."""
    dice(situation)
    for seed in (*SEEDS, *reversed(SEEDS)):
        await situation.execute("seeded", prompt="throw", max_tokens=STREAM, temperature=1.5, seed=seed)

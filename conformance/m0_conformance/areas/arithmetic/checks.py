"""Checks of the arithmetic: each read-out probe in a worker of its own, asked for its first words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from m0_conformance.areas.arithmetic.judge import CLAUSES
from m0_conformance.run.situation import needs, requirement

if TYPE_CHECKING:
    from m0_conformance.run.situation import Situation

TOLD = ("prompts", "names", "about")
"""Facts of a read-out that its judge needs."""


@requirement()
@pytest.mark.parametrize(
    "readout",
    [pytest.param(name, id=name, marks=pytest.mark.requirement(*clauses)) for name, clauses in CLAUSES.items()],
)
@needs("command")
async def test_arithmetic(situation: Situation, readout: str) -> None:
    """One network, its prompts one after the other."""
    worker = await situation.launch(readout, model=f"readout:{readout}")
    if worker.probe is None or worker.running_process.launch.ready_at is None:
        return
    situation.fact("readouts", {readout: {name: worker.probe[name] for name in TOLD}})
    for number, prompt in enumerate(worker.probe["prompts"]):
        await situation.execute(
            f"{readout} {number}", on=worker, prompt=prompt["text"], max_tokens=len(prompt["says"]), temperature=0.0
        )

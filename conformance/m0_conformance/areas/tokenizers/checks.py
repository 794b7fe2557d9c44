"""Checks of tokenizers: each echo probe in a worker of its own, asked to say its vectors again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from m0_conformance.areas.tokenizers.judge import CLAUSES
from m0_conformance.run.situation import needs, requirement

if TYPE_CHECKING:
    from m0_conformance.run.situation import Situation


@requirement()
@pytest.mark.parametrize(
    "vocabulary",
    [pytest.param(name, id=name, marks=pytest.mark.requirement(*clauses)) for name, clauses in CLAUSES.items()],
)
@needs("command")
async def test_vectors(situation: Situation, vocabulary: str) -> None:
    """Every vector of the vocabulary, and /health for what the backend knows."""
    worker = await situation.launch(vocabulary, model=f"echo-{vocabulary}")
    if worker.probe is None or worker.running_process.launch.ready_at is None:
        return
    situation.fact("echo", {name: worker.probe[name] for name in ("vectors", "backend", "vocab", "context", "lag")})
    await situation.get("health", on=worker)
    for number, vector in enumerate(worker.probe["vectors"]):
        budget = len(vector["pieces"]) + (8 if vector["ends"] else 0)
        await situation.execute(
            f"vector {number}", on=worker, prompt=vector["text"], max_tokens=budget, temperature=0.0
        )

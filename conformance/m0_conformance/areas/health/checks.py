"""Checks of GET /health: its fields, and what it says of the tokenizer."""

from __future__ import annotations

import asyncio

from m0_conformance.run.situation import Situation, launch, requirement


@requirement("M0-W-1360/from-metadata", "M0-W-1364/vocab-size")
@launch("script")
async def test_tokenizer_identity(situation: Situation) -> None:
    """/health of a worker with a known byte-BPE vocabulary, as long as its output has rows."""
    size = (situation.probe or {}).get("vocab")
    if size is None:
        situation.not_exercised("the model's vocabulary is not known")
    situation.fact("tokenizer", {"kind": "gguf-bpe", "sizes": [size]})
    await situation.get("identity", "/health")


@requirement(
    "M0-W-1320/answers-json",
    "M0-W-1320/status",
    "M0-W-1320/model",
    "M0-W-1320/uptime-seconds",
    "M0-W-1320/resident",
    "M0-W-1320/vram-bytes-used",
    "M0-W-1320/vocab-size",
    "M0-W-1320/context-length",
    "M0-W-1320/quant-kind",
    "M0-W-1320/tokenizer-kind",
    "M0-W-1320/optional-types",
)
async def test_health_body(situation: Situation) -> None:
    """Before a job, after it, and two seconds later, so that uptime must have moved."""
    await situation.get("idle", "/health")
    await situation.execute("job", max_tokens=2)
    await situation.get("after a job", "/health")
    await asyncio.sleep(2.0)  # uptime in whole seconds must be seen to advance
    await situation.get("two seconds later", "/health")

"""Checks of what the worker logs: its events, their context, and what must not stand there."""

from __future__ import annotations

from m0_conformance.areas.process.checks import whole_life
from m0_conformance.run.situation import Situation, needs, requirement


@requirement(
    "M0-W-1900/startup",
    "M0-W-1900/model-load-start",
    "M0-W-1900/model-load-complete",
    "M0-W-1900/ready",
    "M0-W-1900/execute-start",
    "M0-W-1900/execute-end",
    "M0-W-1900/shutdown",
    "M0-W-1900/context",
    "M0-W-1900/job-id",
    "M0-W-1901/absent",
    "M0-W-1902/no-prompt",
    "M0-W-1902/no-output",
)
@needs("command")
async def test_log_of_a_whole_life(situation: Situation) -> None:
    """Three jobs from start to SIGTERM, one with a unique word in its prompt; the log is read afterwards."""
    await whole_life(situation)

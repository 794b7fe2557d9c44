"""The script probe's promises, for checks that compare with a known text."""

from __future__ import annotations

from typing import Any

from m0_conformance.run.situation import OutOfReach, Situation

LONG = 64
"""Tokens asked for where the script would go on for ever."""


def scripts(situation: Situation) -> dict[str, dict[str, Any]]:
    """The script probe's promises by name, noted for the judges; ends the check on any other model."""
    known = (situation.probe or {}).get("scripts")
    if not known:
        raise OutOfReach("the model's next tokens are not known; needs --worker-command")
    promised = {entry["name"]: {"prompt": prompt, **entry} for prompt, entry in known.items()}
    situation.fact("scripts", promised)
    return promised

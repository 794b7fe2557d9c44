"""The frozen check sets: which checks a profile consists of, per spec revision, so that a verdict names its test set.

`frozen/<revision>.json` holds, per gating profile, the sorted names of its checks and a digest. A run
whose executed checks differ is PARTIAL. `m0-conformance spec publish` writes it, `spec check` compares it with the
checks there are.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from m0_conformance.spec.registry import Registry

FOLDER = Path(__file__).with_name("frozen")
REVISION = "M0-2025-10"
ANY = "any"
"""In the place of a profile's name: every check there was."""


class FrozenError(ValueError):
    """The frozen file contradicts itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check says about itself."""

    name: str
    clauses: tuple[str, ...]
    launches: bool
    """It asks for a worker of its own kind, so a URL cannot show it."""
    alone: bool
    needs: frozenset[str]
    place: str = ""
    """File and line."""

    def within_reach(self, profile: str) -> bool:
        """Whether a situation that offers just this profile can run it; a real model is part of none."""
        if "real-model" in self.needs:
            return False
        if profile == "m0-wire":
            return not (self.launches or self.alone or self.needs & {"command", "cuda", "destructive"})
        return profile == "m0" or "cuda" not in self.needs


def members(registry: Registry, profile: str, checks: Iterable[Check]) -> list[str]:
    """Names of the checks that a profile consists of: within its reach, with a clause that it judges."""
    judged = {clause.id for clause in registry.judged(profile)}
    return sorted(check.name for check in checks if check.within_reach(profile) and judged.intersection(check.clauses))


def digest(checks: Sequence[str]) -> str:
    """SHA-256 over the sorted names, one a line."""
    return hashlib.sha256("\n".join(sorted(checks)).encode()).hexdigest()


def frozen_checks(profile: str, folder: Path = FOLDER) -> frozenset[str] | None:
    """The frozen set of a profile; None while nothing is frozen. Raises FrozenError when the digest is wrong."""
    path = folder / f"{REVISION}.json"
    if not path.exists():
        return None
    entry = json.loads(path.read_text("ascii"))["profiles"].get(profile)
    if entry is None:
        return None
    if digest(entry["checks"]) != entry["sha256"]:
        raise FrozenError(f"{path.name}: the checks of {profile} do not have the digest written beside them")
    return frozenset(entry["checks"])


def renamed(folder: Path = FOLDER) -> dict[str, str]:
    """Names that checks had in older recordings, and what they are called now."""
    path = folder / "renamed.json"
    return dict(json.loads(path.read_text("ascii"))) if path.exists() else {}


def freeze(profiles: Mapping[str, Sequence[str]], folder: Path = FOLDER) -> Path:
    """Write the frozen sets."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{REVISION}.json"
    value = {
        "revision": REVISION,
        "profiles": {
            name: {"sha256": digest(checks), "checks": sorted(checks)} for name, checks in sorted(profiles.items())
        },
    }
    path.write_text(json.dumps(value, indent=1) + "\n", "ascii")
    return path

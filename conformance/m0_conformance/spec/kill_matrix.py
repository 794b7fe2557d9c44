"""The published kill matrix: what the self-test found, bound to the suite it was found with.

`nox -s selftest -- --publish` writes `spec/kill_matrix.json`. A report shows it only while the checks, the
judges, the wire room and the registry are byte for byte those of that run; otherwise the suite is unverified.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json

ROOM = Path(__file__).parent.parent
PUBLISHED = ROOM / "spec" / "kill_matrix.json"
JUDGING = ("areas/**/*.py", "areas/**/*.toml", "judging/**/*.py", "recording/**/*.py", "contract/**/*.json")
"""What decides a verdict; a change to any of it makes a published matrix stale."""


def suite_digest() -> str:
    """SHA-256 over the files that decide a verdict, by name and content."""
    digest = hashlib.sha256()
    for pattern in JUDGING:
        for path in sorted(ROOM.glob(pattern)):
            digest.update(path.relative_to(ROOM).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def publish(matrix: dict[str, Json], path: Path = PUBLISHED) -> None:
    """Write a matrix with the digest of the suite that made it."""
    text = json.dumps({"suite_digest": suite_digest(), "matrix": matrix}, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def published(path: Path = PUBLISHED) -> dict[str, Any] | None:
    """The matrix of this very suite; None where there is none, or the suite has changed since."""
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return dict(value["matrix"]) if value["suite_digest"] == suite_digest() else None


def counts(matrix: dict[str, Any]) -> dict[str, int]:
    """The four numbers of report.json's `suite.selftest`."""
    return {
        "killed": sum(bool(entry["caught"]) for entry in matrix["defects"]),
        "defects": len(matrix["defects"]),
        "benign_flagged": sum(bool(entry["flagged"]) for entry in matrix["oddities"]),
        "benign": len(matrix["oddities"]),
    }

"""The published kill matrix: what the self-test found, bound to the suite it was found with.

`m0-conformance spec publish` writes `spec/kill_matrix.json`, one defect a line. A report shows it only while everything
that decides a verdict is what it was then (see `seal`); otherwise the suite is unverified.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.spec.seal import suite_seal

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json

RESULT = "reports/selftest/kill_matrix.json"
"""Where a self-test leaves what it found."""
PUBLISHED = Path(__file__).with_name("kill_matrix.json")


def publish(matrix: dict[str, Json], seal: str, path: Path = PUBLISHED) -> None:
    """Write a matrix with the seal of the suite that made it, one row a line."""
    rows = []
    for name, value in matrix.items():
        entries = value if isinstance(value, list) else None
        text = json.dumps(value) if not entries else "[\n  " + ",\n  ".join(map(json.dumps, entries)) + "\n ]"
        rows.append(f" {json.dumps(name)}: {text}")
    path.write_text(f'{{"seal": "{seal}", "matrix": {{\n' + ",\n".join(rows) + "\n}}\n", encoding="utf-8")


def published(path: Path = PUBLISHED) -> dict[str, Any] | None:
    """The matrix of this very suite; None where there is none, or the suite has changed since."""
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return dict(value["matrix"]) if value.get("seal") == suite_seal() else None


def counts(matrix: dict[str, Any]) -> dict[str, int]:
    """The four numbers of report.json's `suite.selftest`."""
    return {
        "killed": sum(bool(entry["caught"]) for entry in matrix["defects"]),
        "defects": len(matrix["defects"]),
        "benign_flagged": sum(bool(entry["flagged"]) for entry in matrix["oddities"]),
        "benign": len(matrix["oddities"]),
    }

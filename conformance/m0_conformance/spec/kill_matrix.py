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
_WORDS = {True: "caught", False: "missed"}
PUBLISHED = Path(__file__).with_name("kill_matrix.json")


def publish(matrix: dict[str, Json], seal: str, path: Path = PUBLISHED) -> None:
    """Write a matrix with the seal of the suite that made it, one row a line."""
    rows = []
    for name, value in matrix.items():
        rows.append(f" {json.dumps(name)}: {_rows(value)}")
    path.write_text(f'{{"seal": "{seal}", "matrix": {{\n' + ",\n".join(rows) + "\n}}\n", encoding="utf-8")


def _rows(value: Json) -> str:
    """A value as JSON, a list with an entry a line, a table of lists as well."""
    if isinstance(value, dict):
        return "{" + ",\n  ".join(f"{json.dumps(name)}: {_rows(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return json.dumps(value)


def published(path: Path = PUBLISHED) -> dict[str, Any] | None:
    """The matrix of this very suite; None where there is none, or the suite has changed since."""
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return dict(value["matrix"]) if value.get("seal") == suite_seal() else None


def recorded(path: Path = PUBLISHED) -> dict[str, bool]:
    """Every conditional defect that a published matrix has ever drawn, and whether it was caught when it last was."""
    matrix = json.loads(path.read_text(encoding="utf-8"))["matrix"] if path.exists() else {}
    return {name: caught for caught in (True, False) for name in matrix.get("record", {}).get(_WORDS[caught], ())}


def with_record(matrix: dict[str, Any], before: dict[str, bool]) -> dict[str, Any]:
    """A matrix to publish: what it has drawn is added to what was recorded before."""
    record = {**before, **{row["id"]: row["caught"] for row in matrix["conditional"]["drawn"]}}
    names = {word: sorted(name for name, was in record.items() if was is caught) for caught, word in _WORDS.items()}
    return {**matrix, "record": names}


def published_seed(path: Path = PUBLISHED) -> int:
    """The seed that drew the published sample; 1 before there is one."""
    matrix = json.loads(path.read_text(encoding="utf-8"))["matrix"] if path.exists() else {}
    return int(matrix.get("conditional", {}).get("seed", 1))


def counts(matrix: dict[str, Any]) -> dict[str, int]:
    """The numbers of report.json's `suite.selftest`; a conditional defect that is argued invisible is not counted."""
    conditional = matrix.get("conditional", {"catalogue": 0, "drawn": []})
    seen = [row for row in conditional["drawn"] if not row["invisible"]]
    return {
        "conditional_caught": sum(bool(row["caught"]) for row in seen),
        "conditional_drawn": len(seen),
        "conditional_catalogue": conditional["catalogue"],
        "killed": sum(bool(entry["caught"]) for entry in matrix["defects"]),
        "defects": len(matrix["defects"]),
        "benign_flagged": sum(bool(entry["flagged"]) for entry in matrix["oddities"]),
        "benign": len(matrix["oddities"]),
    }

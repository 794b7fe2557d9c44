"""What one run with one defect has shown, and when that is a catch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m0_conformance.recording.transcript import Recording
from m0_conformance.saboteur.proxy import FAULT
from m0_conformance.saboteur.runner import OUTPUT, Ended

if TYPE_CHECKING:
    from pathlib import Path

    from m0_conformance.saboteur.defect import Defect


@dataclass(slots=True)
class Result:
    """What one run with one defect showed."""

    defect: type[Defect]
    failed: set[str] = field(default_factory=set)
    """Clauses that turned red."""
    trouble: str = ""
    """Why the run counts for nothing: no report, a crash, a worker that did not start."""
    seconds: float = 0.0
    acted: bool = False
    """Of a conditional defect: somebody met the condition, and was lied to."""

    @property
    def own(self) -> set[str]:
        """The clauses that the defect breaks: of a conditional one, those of its condition among them."""
        return {*self.defect.kills, *self.defect.of_condition}

    @property
    def stray(self) -> set[str]:
        """Clauses that are red and are none of its business."""
        return self.failed - self.own - set(self.defect.collateral)

    @property
    def good(self) -> bool:
        """Caught with exactly its clauses, a conditional one with any of them; for an oddity: not flagged."""
        if self.trouble or self.stray:
            return False
        return bool(self.failed & self.own) if self.defect.condition else set(self.defect.kills) <= self.failed

    def words(self) -> str:
        """One line for people."""
        if self.trouble:
            return self.trouble
        missing = (
            [] if self.defect.condition and self.failed & self.own else sorted(set(self.defect.kills) - self.failed)
        )
        parts = [f"not caught by {', '.join(missing)}"] if missing else []
        parts += ["nobody was lied to"] if self.defect.condition and missing and not self.acted else []
        parts += [f"also red: {', '.join(sorted(self.stray))}"] if self.stray else []
        return "; ".join(parts) or ", ".join(sorted(self.failed)) or "nothing red"


def red(report: dict[str, Any]) -> set[tuple[str, str]]:
    """(clause, status) of active clauses that are FAIL or WARN; the undisturbed worker has neither."""
    return {
        (clause["id"], clause["status"])
        for requirement in report["requirements"]
        for clause in requirement["clauses"]
        if clause["disposition"] == "active" and clause["status"] in {"FAIL", "WARN"}
    }


def trouble(report: dict[str, Any], defect: type[Defect]) -> str:
    """Words for a run that shows nothing: errors of the suite, or a worker that never came up."""
    clauses = [clause for requirement in report["requirements"] for clause in requirement["clauses"]]
    for clause in clauses:
        if clause["status"] == "ERROR":
            return f"the suite itself failed on {clause['id']}: {clause['reason']}"
        if clause["status"] == "BLOCKED" and clause["id"] in defect.kills and not defect.crashes:
            return f"{clause['id']} is blocked: {clause['reason']}"
    return ""


def tally_of(folder: Path) -> Path:
    """Where the saboteur of a run notes what it did."""
    return folder.with_name(f"{folder.name}.tally")


def read_result(defect: type[Defect], folder: Path, ended: Ended) -> Result:
    """What a run that is over has shown."""
    result = Result(defect, seconds=ended.seconds)
    tally = tally_of(folder)
    result.acted = tally.exists() and "acted" in tally.read_text(encoding="utf-8").split()
    if ended.timed_out:
        result.trouble = "the run did not end in time"
        return result
    path = folder / "report.json"
    if not path.exists():
        output = folder / OUTPUT
        words = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
        result.trouble = f"no report: {words.strip()[-300:]}"
        return result
    report = json.loads(path.read_text(encoding="utf-8"))
    result.trouble = trouble(report, defect) or ended_by_itself(folder, defect)
    result.failed = {clause for clause, _ in red(report)}
    return result


def ended_by_itself(folder: Path, defect: type[Defect]) -> str:
    """Words for a worker that died, or a defect that raised: neither is a catch."""
    for path in sorted((folder / "transcripts").glob("*.json")):
        for launch in Recording.decode(path.read_bytes()).launches:
            fault = next((line.text for line in launch.lines if FAULT in line.text), None)
            if fault is not None:
                return f"the defect itself failed: {fault}"
            if launch.shared and launch.exit_code is not None and not launch.signals and not defect.crashes:
                return f"the worker ended by itself with exit code {launch.exit_code}"
    return ""

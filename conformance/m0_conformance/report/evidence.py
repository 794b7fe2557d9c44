"""From stored recordings to what a page can show: exchanges and processes as rows, cut to a budget, every cut named.

A run records tens of megabytes; a report must stay a file that can be mailed. So only recordings that a finding or a
PASS points to are embedded, findings first, and of each only the rows around the place in question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from m0_conformance.recording.transcript import Recording
from m0_conformance.report.shown import ShownRecording, show_recording
from m0_conformance.report.view import Json, all_clauses

if TYPE_CHECKING:
    from pathlib import Path

    from m0_conformance.report.document import Report

Store: TypeAlias = Callable[[str], Recording | None]
"""From a recording's SHA-256 to the recording; None when it is not stored, or not what its name says."""


def folder_store(folder: Path) -> Store:
    """Recordings stored as `<folder>/transcripts/<sha>.json`; one whose bytes do not match its name is not returned."""

    def load(sha: str) -> Recording | None:
        try:
            recording = Recording.decode((folder / "transcripts" / f"{sha}.json").read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return recording if recording.sha == sha else None

    return load


@dataclass(slots=True)
class Wanted:
    """What of one recording a report points to."""

    places: dict[str, set[int]] = field(default_factory=dict)
    """Exchange id or launch label to the events in question."""
    failing: bool = False


def wanted(report: Report) -> dict[str, Wanted]:
    """Recordings that findings or PASS evidence point to: those of findings first, in the spec's order."""
    found: dict[str, Wanted] = {}
    for _, clause in all_clauses(report):
        for finding in clause["findings"]:
            if finding["transcript"]:
                entry = found.setdefault(finding["transcript"], Wanted())
                entry.failing = True
                if at := finding["at"]:
                    key = at["exchange"] or at.get("launch")
                    if key:
                        entry.places.setdefault(key, set()).update(() if at["event"] is None else {at["event"]})
    for _, clause in all_clauses(report):
        for sha in samples(report, clause)[:1]:
            found.setdefault(sha, Wanted())
    return found


def samples(report: Report, clause: Json) -> list[str]:
    """Recordings that a clause's status rests on, those of its own checks before the doctor's look at the worker."""
    return sorted(clause["evidence"]["sha"], key=lambda sha: report["recordings"].get(sha) == "doctor")


def embed(
    report: Report, store: Store, *, budget: int, parts_failing: int = 8, parts_passing: int = 3
) -> list[ShownRecording]:
    """Recordings to embed, those of findings first, until `budget` characters of evidence are spent.

    Args:
        report: the report whose findings and evidence are looked up.
        store: where recordings come from.
        budget: characters; beyond it recordings of findings keep only the part in question, half as much again beyond
            it nothing more is embedded.
        parts_failing: exchanges and processes shown of a recording with a finding.
        parts_passing: the same for a sample of a PASS.
    """
    shown: list[ShownRecording] = []
    spent = 0
    for sha, want in wanted(report).items():
        if spent > (1.5 * budget if want.failing else budget):
            continue
        recording = store(sha)
        if recording is None:
            continue
        limit = parts_passing if not want.failing else parts_failing if spent <= budget else 1
        view = show_recording(recording, sha, want.places, limit)
        spent += weight(view)
        shown.append(view)
    return shown


def within(recordings: list[ShownRecording], budget: int) -> list[ShownRecording]:
    """The first of them that `budget` characters, and half as much again for one of a finding, can hold."""
    kept: list[ShownRecording] = []
    spent = 0
    for recording in recordings:
        spent += weight(recording)
        if kept and spent > 1.5 * budget:
            break
        kept.append(recording)
    return kept


def weight(recording: ShownRecording) -> int:
    """Roughly how many characters of page a recording takes."""
    return sum(
        600
        + sum(len(line) for line in [*part.request, *part.response, *part.facts])
        + sum(len(row.text) + 120 for row in part.rows)
        + 16 * min(len(part.arrivals), 500)
        for part in recording.parts
    )

"""What the HTML template prints: the report cut to limits, grouped, and joined with its recordings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m0_conformance.recording.redact import redact
from m0_conformance.report import problems, selfproof, view
from m0_conformance.report.evidence import samples
from m0_conformance.report.text import duration
from m0_conformance.report.timeline import Timeline, draw
from m0_conformance.report.view import Json, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.report.document import Report
    from m0_conformance.report.shown import Shown, ShownRecording

_ATTENTION = 30
_GLYPH = {"CONFORMANT": "PASS", "NON_CONFORMANT": "FAIL", "PARTIAL": "NOT_TESTED", "INCONCLUSIVE": "INCONCLUSIVE"}
_AREAS = {
    "SYS": "System", "10": "Lifetime, memory, seeds, layers", "11": "Command line and start-up", "12": "Model files",
    "130": "HTTP and events", "131": "HTTP and events", "132": "HTTP and events", "133": "HTTP and events",
    "134": "HTTP and events", "135": "HTTP and events", "136": "Tokenizers", "14": "Device code and sampling",
    "15": "Errors", "16": "Performance", "17": "Build", "18": "Tests and evidence", "19": "Logs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a run one page holds; whatever is cut says so where it is cut."""

    evidence: int = 1_200_000
    """Characters of embedded recordings."""
    findings: int = 400
    """In all; each clause keeps at least one."""
    timelines: int = 120
    """Drawings beside findings."""
    text: int = 1_500
    """Characters of one field of a finding."""

    def tighter(self) -> Limits:
        """A third of each."""
        return Limits(self.evidence // 3, self.findings // 3, self.timelines // 3, self.text // 3)


@dataclass(frozen=True, slots=True)
class _Area:
    name: str
    items: list[Json]


class PageContext:
    """Builds the template's context: everything the template prints, already cut and grouped."""

    def __init__(self, report: Report, recordings: Mapping[str, ShownRecording], limits: Limits) -> None:
        self.report = report
        self.recordings = recordings
        found = [len(clause["findings"]) for _, clause in view.all_clauses(report) if clause["findings"]]
        self.findings_each = (
            max(limits.findings // len(found), 1) if sum(found) > limits.findings else max(found, default=0)
        )
        self.timelines_left = limits.timelines
        self.limits = limits
        self.clause_ids = {clause["id"] for _, clause in view.all_clauses(report)}
        self.keys = {f["key"]: c["id"] for _, c in view.all_clauses(report) for f in c["findings"]}

    def values(self) -> dict[str, Any]:
        """Everything by the name that the template uses."""
        report = self.report
        attention = problems.attention(report)
        dispositions = report["summary"]["by_disposition"]
        return {
            "report": report,
            "verdict_word": view.VERDICT_WORDS[report["verdict"]],
            "verdict_glyph": _GLYPH[report["verdict"]],
            "target_name": view.target_name(report),
            "steps": view.ladder(report),
            "preview": view.preview(report),
            "tallies": view.tallies(report),
            "notes": view.summary_sentences(report)[2:],
            "by_status": view.ordered(report["summary"]["by_status"]),
            "areas": self.areas(),
            "attention": [(problem, problems.headline(report, problem)) for problem in attention[:_ATTENTION]],
            "causes": problems.causes(report),
            "attention_more": max(len(attention) - _ATTENTION, 0),
            "present": list(view.ordered(_clause_statuses(report))),
            "profiles": [*view.LADDER, *(["m1-preview"] if view.preview(report) else [])],
            "dispositions": [name for name in view.DISPOSITIONS if dispositions.get(name)],
            "requirements": [self.requirement(requirement) for requirement in report["requirements"]],
            "readings": [reading for reading in report["readings"] if reading["observed"]],
            "unread": [reading for reading in report["readings"] if not reading["observed"]],
            "ledger": selfproof.ledger(report),
            "kills": selfproof.kill_matrix(report),
            "unseen": view.unseen(report),
            "options": [(name, _plain(value)) for name, value in report["run"]["options"].items()],
            "identity": [(name, _plain(value)) for name, value in report["target"]["identity"].items()],
            "recordings": [self.recording(recording) for recording in self.recordings.values()],
            "not_embedded": len(report["recordings"]) - len(self.recordings),
        }

    def areas(self) -> list[_Area]:
        """Requirements in groups by number, in the order of the groups' first number."""
        groups: dict[str, list[Json]] = {}
        for requirement in self.report["requirements"]:
            groups.setdefault(_area(requirement["id"]), []).append(requirement)
        order = list(dict.fromkeys(_AREAS.values()))
        return [
            _Area(
                name, [{**item, "gates": view.gates(item)} for item in sorted(items, key=lambda item: str(item["id"]))]
            )
            for name, items in sorted(groups.items(), key=lambda group: order.index(group[0]))
        ]

    def requirement(self, requirement: Json) -> Json:
        """A requirement with its clauses ready and the smallest profile that holds any of them."""
        clauses = [self.clause(clause) for clause in requirement["clauses"]]
        held = [profile for profile in (*view.LADDER, "m1-preview") if any(c["profile"] == profile for c in clauses)]
        bad = requirement["status"] in problems.BAD
        return {**requirement, "clauses": clauses, "profile": held[0] if held else "", "bad": bad}

    def clause(self, clause: Json) -> Json:
        """A clause with its evidence in words, two recordings and as many findings as the limits allow."""
        evidence = clause["evidence"]
        counted = [
            (evidence["exchanges"], "exchange"),
            (evidence["events"], "event"),
            (evidence["findings"], "judgement"),
        ]
        shown = [
            {
                "anchor": self.recordings[sha].anchor if sha in self.recordings else None,
                "check": self.report["recordings"].get(sha, sha[:12]),
            }
            for sha in samples(self.report, clause)[:2]
        ]
        findings = clause["findings"][: self.findings_each]
        return {
            **clause,
            "evidence_line": ", ".join(plural(n, noun) for n, noun in counted if n),
            "samples": shown,
            "findings": [self.finding(finding) for finding in findings],
            "more": len(clause["findings"]) - len(findings),
        }

    def finding(self, finding: Json) -> Json:
        """A finding with its place, its transcript's anchor and its drawing."""
        at = finding["at"] or {}
        recording = self.recordings.get(finding["transcript"])
        part = self.part(recording, at)
        cause = finding["caused_by"]
        timeline: Timeline | None = None
        mark = _moment(at, part)
        if recording and part and self.timelines_left > 0 and (part.arrivals or part.marks):
            self.timelines_left -= 1
            timeline = draw(recording, part, mark)
        return {
            **finding,
            **{name: self.cut(finding[name]) for name in ("expected", "actual") if finding[name]},
            "message": self.cut(problems.message_of(self.report, finding)),
            "check": problems.check_of(self.report, finding),
            **{name: self.command(name, finding[name]) for name in ("curl", "replay")},
            "place": _place(at),
            "event": at.get("event"),
            "anchor": part.anchor if part else recording.anchor if recording else None,
            "lines": [{"text": self.cut(line), "hit": line.startswith(">")} for line in finding["lines"]],
            "timeline": timeline,
            "marked": mark is not None,
            "note": self.missing(finding, recording),
            "cause_anchor": cause if cause in self.clause_ids else self.keys.get(cause),
        }

    def cut(self, text: str) -> str:
        """At most as much of a text as the limits allow, the rest counted."""
        limit = self.limits.text
        return text if len(text) <= limit else f"{text[:limit]}… [truncated: {len(text) - limit:,} more characters]"

    def command(self, name: str, text: str | None) -> str | None:
        """A command whole or not at all: half of one would be worse than none."""
        whole = text is None or len(text) <= 2 * self.limits.text
        return text if whole else f"# truncated: this {name} line is too long for this page, it stands in report.json"

    def missing(self, finding: Json, recording: ShownRecording | None) -> str | None:
        """Why there is no transcript to open."""
        if finding["transcript"] and recording is None:
            return f"the recording is not embedded here: transcripts/{finding['transcript']}.json"
        return None

    @staticmethod
    def part(recording: ShownRecording | None, at: Json) -> Shown | None:
        """The exchange or process a finding lies in."""
        if recording is None:
            return None
        if at.get("launch"):
            return recording.part(at["launch"], launch=True)
        return recording.part(at.get("exchange"))

    @staticmethod
    def recording(recording: ShownRecording) -> Json:
        """A recording with a drawing of its longest stream."""
        longest = max(recording.parts, key=lambda part: (not part.is_launch, len(part.arrivals)), default=None)
        return {
            "anchor": recording.anchor,
            "sha": recording.sha,
            "check": recording.check,
            "outcome": recording.outcome,
            "note": recording.note,
            "background": recording.background,
            "parts": recording.parts,
            "timeline": draw(recording, longest) if longest and len(longest.arrivals) > 1 else None,
        }


def _clause_statuses(report: Report) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, clause in view.all_clauses(report):
        counts[clause["status"]] = counts.get(clause["status"], 0) + 1
    return counts


def _area(identifier: str) -> str:
    number = identifier.removeprefix("M0-W-")
    if number == identifier:
        return _AREAS["SYS"]
    return _AREAS.get(number[:2]) or _AREAS[number[:3]]


def _place(at: Json) -> str:
    """'exchange x1 · event 18 · byte 745 · +214 ms'; '' when nothing is known."""
    words = []
    if at.get("launch"):
        words.append(f"process {at['launch']}")
    if at.get("exchange"):
        words.append(f"exchange {at['exchange']}")
    if at.get("event") is not None:
        words.append(f"{'log line' if at.get('launch') else 'event'} {at['event']}")
    if at.get("byte") is not None:
        words.append(f"byte {at['byte']:,}")
    if at.get("t_ms") is not None:
        words.append(f"+{duration(at['t_ms'] / 1000)}")
    return " · ".join(words)


def _moment(at: Json, part: Shown | None) -> float | None:
    """When the finding happened, seconds since its exchange began: told, else the arrival of its event."""
    if at.get("t_ms") is not None:
        return float(at["t_ms"]) / 1000
    if part and at.get("event") is not None and at["event"] < len(part.arrivals):
        return part.arrivals[at["event"]]
    return None


def _plain(value: Any) -> str:
    return redact(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

"""report.json from the results of all clauses; its schema is `report/report.schema.json`."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from m0_conformance.judging.causes import causes_of
from m0_conformance.judging.finding import Finding, Status, worst
from m0_conformance.recording.repro import curl_line, replay_line
from m0_conformance.spec.registry import Disposition, Level, Registry, Requirement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from m0_conformance.judging.outcome import ClauseResult, RunFacts, Verdict
    from m0_conformance.recording.transcript import Json, Recording

SHOWN_FINDINGS = 5
"""Findings listed per clause; the same fault in forty streams is one fault."""


def report_of(
    registry: Registry,
    results: Mapping[str, ClauseResult],
    recordings: Mapping[str, Recording],
    facts: RunFacts,
    verdict: Verdict,
    line: str,
) -> dict[str, Json]:
    """The whole report but for its digest."""
    requirements = []
    seconds = _clause_seconds(recordings)
    by_status: Counter[str] = Counter()
    for requirement in registry.requirements.values():
        status, reason = requirement_status(requirement, results)
        by_status[status.value] += 1
        requirements.append({
            "id": requirement.id,
            "title": requirement.title,
            "line": requirement.line,
            "level": requirement.level.value,
            "scope": requirement.scope,
            "status": status.value,
            "reason": reason,
            "clauses": [
                _clause_json(results[clause.id], recordings, facts, seconds.get(clause.id, 0.0))
                for clause in requirement.clauses
            ],
        })  # fmt: skip
    following = registry.profiles[facts.profile].next
    return {
        "schema_version": 1,
        "suite": facts.suite,
        "spec": {
            "repository": registry.spec.repository,
            "path": registry.spec.path,
            "commit": registry.spec.commit,
            "sha256": registry.spec.sha256,
        },
        "target": facts.target,
        "run": facts.run,
        "profile": facts.profile,
        "verdict": verdict,
        "verdict_line": line,
        "next_profile": None
        if following is None
        else {
            "name": following,
            "lacks": registry.profiles[following].needs,
            "requirements": len(registry.missing_in(facts.profile)),
        },
        "summary": {
            "by_level": _by_level(registry, results, facts.profile),
            "by_status": dict(by_status),
            "by_disposition": dict(Counter(clause.status.value for clause in registry.clauses.values())),
        },
        "causes": _causes(registry, results, recordings, facts),
        "requirements": requirements,
        "readings": _readings(registry, results),
        "kill_matrix": facts.kill_matrix,
        "recordings": {sha: recording.check for sha, recording in recordings.items()},
        "digest": "",
    }


def _by_level(registry: Registry, results: Mapping[str, ClauseResult], profile: str) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {level.value: Counter() for level in Level}
    for clause in registry.in_profile(profile):
        if clause.status in {Disposition.ACTIVE, Disposition.DISPUTED}:
            counts[clause.level.value][results[clause.id].status.value] += 1
    return {level: dict(counter) for level, counter in counts.items()}


def _clause_json(
    result: ClauseResult, recordings: Mapping[str, Recording], facts: RunFacts, seconds: float
) -> dict[str, Json]:
    clause = result.clause
    reason = result.reason
    if reason is None and result.status is not Status.PASS:
        reason = result.status.value
    return {
        "id": clause.id,
        "level": clause.level.value,
        "text": clause.text,
        "status": result.status.value,
        "reason": None if result.status is Status.PASS else reason,
        "observable": clause.observable.value,
        "disposition": clause.status.value,
        "profile": clause.profile,
        "seconds": round(seconds, 3),
        "evidence": result.evidence,
        "findings": [_finding_json(finding, recordings, facts) for finding in _shown(result.findings)],
    }


def _causes(
    registry: Registry, results: Mapping[str, ClauseResult], recordings: Mapping[str, Recording], facts: RunFacts
) -> list[dict[str, Json]]:
    """What to mend first, each with its clauses and one finding that shows it."""
    titles = {requirement.id: requirement.title for requirement in registry.requirements.values()}
    return [
        {
            "name": cause.name,
            "says": cause.says,
            "mend": cause.mend,
            "clauses": cause.clauses,
            "findings": cause.findings,
            "example": None if cause.example is None else _finding_json(cause.example, recordings, facts),
        }
        for cause in causes_of(results, titles)
    ]


def _clause_seconds(recordings: Mapping[str, Recording]) -> dict[str, float]:
    """How long each clause's checks took, as their exchanges show; a check's time is shared out among its clauses."""
    found: dict[str, float] = defaultdict(float)
    for recording in recordings.values():
        ends = [exchange.t0 + (exchange.closed_at or 0.0) for exchange in recording.exchanges]
        own = [launch for launch in recording.launches if not launch.shared]
        ends += [launch.t0 + launch.exited_at for launch in own if launch.exited_at]
        starts = [exchange.t0 for exchange in recording.exchanges]
        starts += [launch.t0 for launch in own]
        took = max(ends, default=0.0) - min(starts, default=0.0)
        for clause in recording.clauses:
            found[clause] += max(took, 0.0) / len(recording.clauses)
    return found


def _shown(findings: Sequence[Finding]) -> list[Finding]:
    """The worst few, different kinds first."""
    first: dict[tuple[str, str], Finding] = {}
    rest: list[Finding] = []
    for finding in findings:
        if (finding.status.value, finding.key) in first:
            rest.append(finding)
        else:
            first[finding.status.value, finding.key] = finding
    return [*first.values(), *rest][: max(SHOWN_FINDINGS, len(first))]


def _finding_json(finding: Finding, recordings: Mapping[str, Recording], facts: RunFacts) -> dict[str, Json]:
    recording = recordings.get(finding.recording)
    names = [finding.at.exchange] if finding.at is not None else list(finding.exchanges)
    exchange = None
    if recording is not None:
        exchange = next((item for item in recording.exchanges if item.id in names), None)
    return {
        "key": finding.key,
        "status": finding.status.value,
        "message": f"{finding.check}: {finding.message}" if finding.check else finding.message,
        "expected": finding.expected or None,
        "actual": finding.actual or None,
        "at": None if finding.at is None else finding.at.to_json(),
        "lines": list(finding.lines),
        "transcript": finding.recording if recording is not None else None,
        "curl": None if exchange is None else curl_line(exchange),
        "replay": None
        if recording is None or not recording.exchanges
        else replay_line(finding.recording, facts.reports),
        "caused_by": finding.caused_by,
    }


def _readings(registry: Registry, results: Mapping[str, ClauseResult]) -> list[dict[str, Json]]:
    observed: dict[str, list[str]] = defaultdict(list)
    notes: dict[str, str] = {}
    for result in results.values():
        for finding in result.findings:
            if finding.reading is not None:
                name, value = finding.reading
                if value not in observed[name]:
                    observed[name].append(value)
                notes.setdefault(name, finding.message)
    return [
        {
            "name": reading.name,
            "observed": ", ".join(observed[reading.name]) or None,
            "default": reading.default,
            "clauses": [clause.id for clause in registry.clauses_of_reading(reading.name)],
            "note": notes.get(reading.name) or reading.reading,
        }
        for reading in registry.readings.values()
    ]


def statuses(report: Mapping[str, Any]) -> dict[str, str]:
    """Every clause's status in a report: what `rejudge` must reproduce."""
    return {
        clause["id"]: clause["status"] for requirement in report["requirements"] for clause in requirement["clauses"]
    }


def requirement_status(requirement: Requirement, results: Mapping[str, ClauseResult]) -> tuple[Status, str | None]:
    """A requirement's status, and why it is not PASS: the worst of its clauses that count."""
    own = [results[clause.id] for clause in requirement.clauses]
    counted = [result for result in own if result.clause.status is Disposition.ACTIVE]
    if not counted:
        statuses = [result.status for result in own if result.status is not Status.INFO]
        status = worst(statuses, default=Status.INFO if own else Status.NOT_TESTED)
        return (
            status,
            None if status is Status.PASS else requirement.reason or "nothing of it can be judged from outside",
        )
    status = worst((result.status for result in counted if result.status is not Status.INFO), default=Status.INFO)
    if status is Status.PASS:
        return status, None
    culprits = [result for result in counted if result.status is status]
    first = culprits[0]
    more = f" (and {len(culprits) - 1} more clauses)" if len(culprits) > 1 else ""
    return status, f"{first.clause.name}: {first.reason or first.status.value}{more}"

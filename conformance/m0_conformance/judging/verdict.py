"""From findings to verdict: findings → clause → requirement → profile. Pure, so that `rejudge` is the same function.

Worst wins (see `finding.Status`). A PASS needs evidence: as many exchanges or launches as the clause demands. A broken
SHOULD is WARN, a MAY is INFO. A clause whose prerequisite failed is BLOCKED instead of FAIL, with `caused_by`. A check
that this kind of target cannot show (out of reach) makes no hole where another check saw the clause; every other skip
does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from m0_conformance.judging.finding import Finding, Status, worst
from m0_conformance.recording.repro import curl_line, replay_line
from m0_conformance.spec.registry import Clause, Disposition, Level, Observable, Registry, Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from m0_conformance.recording.transcript import Json, Recording

Verdict: TypeAlias = Literal["CONFORMANT", "NON_CONFORMANT", "PARTIAL", "INCONCLUSIVE"]
SHOWN_FINDINGS = 5
"""Findings listed per clause; the same fault in forty streams is one fault."""
SHOWN_SHAS = 8
DOCTOR = "doctor"


@dataclass(slots=True)
class RunFacts:
    """What the verdict must know besides the findings; everything here also stands in the report."""

    profile: str
    suite: dict[str, Json]
    target: dict[str, Json]
    run: dict[str, Json]
    collected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Every check there is, with its clauses; empty when unknown (rejudge)."""
    expected_checks: frozenset[str] | None = None
    """The frozen set for this profile; None while none is frozen."""
    known_checks: frozenset[str] = frozenset()
    """Every check that the frozen sets know, whatever its profile: one more than the profile asks for does no harm."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Older names of checks, for recordings made when they bore them."""
    filtered: bool = False
    interrupted: bool = False
    kill_matrix: Json = None
    reports: str = ""
    """The report folder, for replay lines."""


@dataclass(slots=True)
class ClauseResult:
    """One clause, rolled up."""

    clause: Clause
    status: Status
    reason: str | None
    findings: list[Finding] = field(default_factory=list)
    """Everything but passes, worst first, levels applied."""
    evidence: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """The whole result."""

    clauses: dict[str, ClauseResult]
    verdict: Verdict
    line: str
    report: dict[str, Json]

    @property
    def failures(self) -> list[Finding]:
        """Every FAIL finding of a clause that is FAIL: what the expected failures must account for."""
        return [
            finding
            for result in self.clauses.values()
            if result.status is Status.FAIL and result.clause.status is Disposition.ACTIVE
            for finding in result.findings
            if finding.status is Status.FAIL
        ]


# ---- clauses ------------------------------------------------------------------------------------------------------


def at_level(finding: Finding, level: Level) -> Finding:
    """A broken SHOULD is a warning, a broken MAY information."""
    if finding.status in {Status.FAIL, Status.WARN} and level is Level.MAY:
        return finding.named(status=Status.INFO)
    if finding.status is Status.FAIL and level is Level.SHOULD:
        return finding.named(status=Status.WARN)
    return finding


def _judge_clause(clause: Clause, findings: Sequence[Finding], device: str | None, silence: str) -> ClauseResult:
    levelled = [at_level(finding, clause.level) for finding in findings]
    passes = [finding for finding in levelled if finding.status is Status.PASS]
    evidence = _evidence(levelled)
    others = sorted(
        (finding for finding in levelled if finding.status is not Status.PASS),
        key=lambda finding: finding.status.severity,
    )
    result = ClauseResult(clause, Status.NOT_TESTED, None, others, evidence)
    if clause.observable is Observable.GPU and device != "cuda":
        result.reason, result.findings = "needs an NVIDIA device", []
        return result
    if clause.status in {Disposition.WHITEBOX, Disposition.EXCLUDED}:
        result.status = Status.NA if clause.status is Disposition.EXCLUDED else Status.NOT_TESTED
        result.reason = clause.reason
        return result
    saw = [finding for finding in levelled if finding.key != "out-of-reach" and finding.status is not Status.INFO]
    if clause.status is Disposition.DEFERRED and any(finding.status is Status.INFO for finding in levelled):
        saw = [finding for finding in saw if finding.key != "nothing-observed"]  # what it saw is told for information
    if clause.status is Disposition.DISPUTED:
        result.status = Status.INFO if others or passes else Status.NOT_TESTED
        result.reason = clause.reason
        return result
    if saw:
        result.status = worst(finding.status for finding in saw)
    elif any(finding.status is Status.INFO for finding in levelled):
        result.status = Status.INFO
    rests_on = {(finding.recording, name) for finding in passes for name in finding.exchanges}
    if result.status is Status.PASS and len(rests_on) < clause.min_evidence:
        result.status = Status.NOT_TESTED
        result.reason = f"seen {len(rests_on)} times, {clause.min_evidence} are needed for a PASS"
    elif result.status is not Status.PASS:
        result.reason = others[0].message if others else silence
    if clause.status is Disposition.DEFERRED and not saw:
        result.reason = clause.reason
    return result


def _evidence(findings: Sequence[Finding]) -> dict[str, Json]:
    judged = [finding for finding in findings if finding.status is not Status.NOT_TESTED]
    names = {(finding.recording, name) for finding in judged for name in finding.exchanges}
    shas = list(dict.fromkeys(finding.recording for finding in judged if finding.recording))
    return {
        "exchanges": len(names),
        "events": sum(finding.events for finding in judged),
        "findings": len(judged),
        "sha": shas[:SHOWN_SHAS],
    }


def _block(results: dict[str, ClauseResult]) -> None:
    """A FAIL whose prerequisite failed becomes BLOCKED; repeated until nothing changes, so chains work in any order."""
    changed = True
    while changed:
        changed = False
        for result in results.values():
            if result.status is not Status.FAIL:
                continue
            cause = next((name for name in result.clause.depends_on if _bad(results, name)), None)
            failures = [finding for finding in result.findings if finding.status is Status.FAIL]
            if cause is None and failures and all(_bad(results, finding.caused_by) for finding in failures):
                cause = failures[0].caused_by
            if cause is not None:
                result.status, result.reason = Status.BLOCKED, f"cannot be judged while {cause} fails"
                result.findings = [finding.named(caused_by=finding.caused_by or cause) for finding in result.findings]
                changed = True


def _bad(results: Mapping[str, ClauseResult], name: str | None) -> bool:
    return name is not None and name in results and results[name].status in {Status.FAIL, Status.BLOCKED}


# ---- requirements -------------------------------------------------------------------------------------------------


def _requirement(requirement: Requirement, results: Mapping[str, ClauseResult]) -> tuple[Status, str | None]:
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


# ---- the whole ----------------------------------------------------------------------------------------------------


def roll_up(
    registry: Registry, recordings: Mapping[str, Recording], findings: Iterable[Finding], facts: RunFacts
) -> Outcome:
    """Everything that a report says, from what was recorded."""
    doctor = next((recording for recording in recordings.values() if recording.check == DOCTOR), None)
    complaint = str(doctor.facts.get("complaint", "")) if doctor is not None else ""
    refused = bool(doctor is not None and doctor.facts.get("refused"))
    by_clause: dict[str, list[Finding]] = defaultdict(list)
    for finding in () if refused else findings:  # whatever answered there was no M0 worker: nothing is proven about one
        by_clause[finding.clause].append(finding)
    covered = {clause for clauses in facts.collected.values() for clause in clauses}
    device = facts.target.get("device")
    results = {
        clause.id: _judge_clause(clause, by_clause[clause.id], device, _silence(clause, covered, facts, complaint))
        for clause in registry.clauses.values()
    }
    if complaint:
        for result in results.values():
            active = result.clause.status is Disposition.ACTIVE
            if active and result.status is Status.NOT_TESTED and not result.findings:
                result.status, result.reason = Status.BLOCKED, complaint
    _block(results)
    verdict, why = _verdict(registry, results, recordings, facts, complaint, refused=refused)
    line = _line(registry, results, facts, verdict, why)
    report = _report(registry, results, recordings, facts, verdict, line)
    return Outcome(results, verdict, line, report)


def _silence(clause: Clause, covered: set[str], facts: RunFacts, complaint: str) -> str:
    if complaint:
        return complaint
    if facts.filtered:
        return "its checks were deselected"
    if facts.interrupted:
        return "the run was interrupted before its checks"
    if facts.target.get("kind") == "url" and clause.profile != "m0-wire":
        return "needs --worker-command"
    return "no recorded exchange showed it" if clause.id in covered else "no check exercises it"


def executed(recordings: Mapping[str, Recording], renamed: Mapping[str, str]) -> frozenset[str]:
    """Checks that were really run, by the names they have now."""
    return frozenset(
        renamed.get(recording.check, recording.check)
        for recording in recordings.values()
        if recording.clauses and recording.outcome not in {"out-of-reach", "blocked"}
    )


def frozen_set_differences(recordings: Mapping[str, Recording], facts: RunFacts) -> list[str]:
    """Checks of the frozen set that did not come up, and checks that were run and are in no frozen set.

    A check that came up and found that this kind of target cannot show its situation did come up: what it leaves
    untested is a matter of its clauses.
    """
    if facts.expected_checks is None:
        return []
    aside = {
        facts.renamed.get(one.check, one.check)
        for one in recordings.values()
        if one.clauses and one.outcome == "out-of-reach"
    }
    ran = executed(recordings, facts.renamed)
    return sorted((facts.expected_checks - ran - aside) | (ran - facts.expected_checks - facts.known_checks))


def _verdict(
    registry: Registry,
    results: Mapping[str, ClauseResult],
    recordings: Mapping[str, Recording],
    facts: RunFacts,
    complaint: str,
    *,
    refused: bool,
) -> tuple[Verdict, str]:
    judged = [results[clause.id] for clause in registry.judged(facts.profile)]
    musts = [result for result in judged if result.clause.level is Level.MUST]

    def named(*statuses: Status, among: Iterable[ClauseResult] = musts) -> list[str]:
        return [result.clause.id for result in among if result.status in statuses]

    if refused:
        return "INCONCLUSIVE", complaint
    if failed := named(Status.FAIL):
        return "NON_CONFORMANT", f"{len(failed)} of {len(musts)} MUST clauses failed: {_some(failed)}"
    if complaint:
        return "INCONCLUSIVE", complaint
    if broken := named(Status.ERROR, among=results.values()):
        return "INCONCLUSIVE", f"the suite itself failed on {_some(broken)}"
    if unclear := named(Status.INCONCLUSIVE):
        return "INCONCLUSIVE", f"{len(unclear)} MUST clauses could not be decided: {_some(unclear)}"
    if facts.interrupted:
        return "PARTIAL", "the run was interrupted"
    if facts.filtered:
        return "PARTIAL", "only the checks asked for with --requirement were run"
    if missing := named(Status.BLOCKED, Status.NOT_TESTED):
        first = results[missing[0]].reason or "not tested"
        return "PARTIAL", f"{len(missing)} of {len(musts)} MUST clauses not tested: {_some(missing)} ({first})"
    if off := frozen_set_differences(recordings, facts):
        return "PARTIAL", f"the checks run are not the frozen set of {facts.profile}: {_some(off)}"
    if not any(result.status is Status.PASS for result in musts):
        return "PARTIAL", "no MUST clause was seen kept"
    return "CONFORMANT", ""


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _line(registry: Registry, results: Mapping[str, ClauseResult], facts: RunFacts, verdict: Verdict, why: str) -> str:
    following = registry.profiles[facts.profile].next
    line = f"{verdict} in {facts.profile}" + (f": {why}" if why else "")
    warned = [
        r.clause.id for r in results.values() if r.status is Status.WARN and r.clause.status is Disposition.ACTIVE
    ]
    if verdict == "CONFORMANT" and warned:
        line += f" with {len(warned)} warning{'s' if len(warned) > 1 else ''}"
    if following is not None and not (verdict == "INCONCLUSIVE" and why):
        count = len(registry.missing_in(facts.profile))
        needs = registry.profiles[following].needs
        line += f"; {following} needs {needs}: {count} requirements not tested"
    return line


# ---- report.json --------------------------------------------------------------------------------------------------


def _report(
    registry: Registry,
    results: Mapping[str, ClauseResult],
    recordings: Mapping[str, Recording],
    facts: RunFacts,
    verdict: Verdict,
    line: str,
) -> dict[str, Json]:
    requirements = []
    by_status: Counter[str] = Counter()
    for requirement in registry.requirements.values():
        status, reason = _requirement(requirement, results)
        by_status[status.value] += 1
        requirements.append({
            "id": requirement.id,
            "title": requirement.title,
            "line": requirement.line,
            "level": requirement.level.value,
            "scope": requirement.scope,
            "status": status.value,
            "reason": reason,
            "clauses": [_clause_json(results[clause.id], recordings, facts) for clause in requirement.clauses],
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


def _clause_json(result: ClauseResult, recordings: Mapping[str, Recording], facts: RunFacts) -> dict[str, Json]:
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
        "evidence": result.evidence,
        "findings": [_finding_json(finding, recordings, facts) for finding in _shown(result.findings)],
    }


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

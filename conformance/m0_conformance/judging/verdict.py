"""From findings to verdict: findings → clause → requirement → profile. Pure, so that `rejudge` is the same function.

Worst wins (see `finding.Status`). A PASS needs evidence: as many exchanges or launches as the clause demands. A broken
SHOULD is WARN, a MAY is INFO. A clause whose prerequisite failed is BLOCKED instead of FAIL, with `caused_by`. A check
that this kind of target cannot show (out of reach) makes no hole where another check saw the clause; every other skip
does.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from m0_conformance.judging.finding import Finding, Status, worst
from m0_conformance.spec.registry import Clause, Disposition, Level, Observable, Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from m0_conformance.recording.transcript import Json, Recording
from m0_conformance.judging.judge import SILENT
from m0_conformance.judging.outcome import ClauseResult, Outcome, RunFacts, Verdict
from m0_conformance.judging.report_json import report_of

SHOWN_SHAS = 8
DOCTOR = "doctor"


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
        saw = [finding for finding in saw if finding.key != SILENT]  # what it saw is told for information
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
        result.reason = _reason(clause, others[0]) if others else silence
    if clause.status is Disposition.DEFERRED and not saw:
        result.reason = clause.reason
    return result


def _reason(clause: Clause, finding: Finding) -> str:
    """The finding's words; where a check saw nothing that decides, what it would have taken and what there was."""
    if finding.key != SILENT:
        return finding.message
    return f"undecided: it takes {clause.takes or 'a situation that did not come about'}; {finding.message}"


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
            silent = result.status is Status.NOT_TESTED and any(finding.key == SILENT for finding in result.findings)
            if result.status is not Status.FAIL and not silent:
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
    report = report_of(registry, results, recordings, facts, verdict, line)
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

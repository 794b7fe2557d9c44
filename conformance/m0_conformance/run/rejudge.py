"""Judging again what was recorded: no worker, no socket, the same statuses.

A third party can so verify a vendor's report, and a newer suite can say what it would have found in an older run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from m0_conformance.judging.judge import evaluate, load_all
from m0_conformance.judging.outcome import Outcome, RunFacts
from m0_conformance.judging.report_json import statuses
from m0_conformance.judging.verdict import roll_up
from m0_conformance.recording.store import read_recording
from m0_conformance.report.document import read_report, seal, write_report
from m0_conformance.spec.check_sets import ANY, frozen_checks, renamed
from m0_conformance.spec.registry import load_registry

if TYPE_CHECKING:
    from pathlib import Path

    from m0_conformance.judging.finding import Finding
    from m0_conformance.recording.transcript import Recording


def judge_again(folder: Path, report: dict[str, Any]) -> Outcome:
    """The outcome that this suite's judges give for the recordings of a report. Raises StoreError."""
    load_all()
    recordings: dict[str, Recording] = {sha: read_recording(folder, sha) for sha in report["recordings"]}
    findings: list[Finding] = [finding for recording in recordings.values() for finding in evaluate(recording)]
    registry = load_registry()
    options = report["run"]["options"]
    facts = RunFacts(
        profile=report["profile"],
        suite={**report["suite"], "registry_sha": registry.digest},
        target=report["target"],
        run=report["run"],
        collected={recording.check: recording.clauses for recording in recordings.values()},
        expected_checks=frozen_checks(report["profile"]),
        known_checks=frozen_checks(ANY) or frozenset(),
        renamed=renamed(),
        filtered=bool(options.get("requirement")),
        interrupted=bool(options.get("interrupted")),
        kill_matrix=report["kill_matrix"],
        reports=str(folder),
    )
    return roll_up(registry, recordings, findings, facts)


def rejudge(path: Path, output: Path | None) -> int:
    """`m0-conformance rejudge`: 0 when every status is the same, 1 when one changed."""
    report = read_report(path)
    folder = path if path.is_dir() else path.parent
    outcome = judge_again(folder, report)
    if report.get("expected_ledger") is not None:
        outcome.report["expected_ledger"] = report["expected_ledger"]
    before, after = statuses(report), statuses(seal(outcome.report))
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    for name in sorted(changed):
        sys.stdout.write(f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}\n")
    sys.stdout.write(
        f"{outcome.line}\n{len(report['recordings'])} recordings judged again, {len(changed)} statuses changed\n"
    )
    if output is not None:
        target = output / "report.json" if output.suffix != ".json" else output
        write_report(outcome.report, target)
        sys.stdout.write(f"{target}\n")
    return 1 if changed or report["verdict"] != outcome.verdict else 0

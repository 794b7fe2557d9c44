"""`m0-conformance selftest`: every defect must turn exactly its clauses red, every oddity none.

Each run is a real run of the suite against the real worker behind the saboteur, with the checks of the defect's own
clauses and a fixed set of sentinel checks; `--full` runs every check for every defect. The truth-telling saboteur is
judged by all checks first: without a green baseline nothing that follows means anything.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.recording.transcript import Recording
from m0_conformance.run.options import RunOptions
from m0_conformance.run.pytest_session import collected
from m0_conformance.saboteur.catalogue import catalogue
from m0_conformance.saboteur.proxy import FAULT
from m0_conformance.saboteur.runner import OUTPUT, Ended, preload, run_all
from m0_conformance.spec.coverage import coverage
from m0_conformance.spec.kill_matrix import RESULT, counts
from m0_conformance.spec.registry import load_registry
from m0_conformance.spec.seal import files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from m0_conformance.saboteur.defect import Defect
    from m0_conformance.spec.registry import Registry

SENTINELS = ("M0-W-1310/event-names", "M0-W-1330/idempotent", "M0-W-1422/absent-string")
"""Clauses whose checks accompany every defect: ordinary streams with /health, cancel, stop strings."""
RUN_LIMIT_S = 150.0
FULL_LIMIT_S = 900.0


@dataclass(slots=True)
class Result:
    """What one run with one defect showed."""

    defect: type[Defect]
    failed: set[str] = field(default_factory=set)
    """Clauses that turned red."""
    trouble: str = ""
    """Why the run counts for nothing: no report, a crash, a worker that did not start."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Caught with exactly its clauses; for an oddity: not flagged."""
        if self.trouble:
            return False
        allowed = set(self.defect.kills) | set(self.defect.collateral)
        return set(self.defect.kills) <= self.failed <= allowed

    def words(self) -> str:
        """One line for people."""
        if self.trouble:
            return self.trouble
        missing = sorted(set(self.defect.kills) - self.failed)
        more = sorted(self.failed - set(self.defect.kills) - set(self.defect.collateral))
        parts = [f"not caught by {', '.join(missing)}"] if missing else []
        parts += [f"also red: {', '.join(more)}"] if more else []
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


def options_of(defect: type[Defect], worker: str, folder: Path, *, full: bool) -> RunOptions:
    """What a user would type to judge the worker behind this defect."""
    command = shlex.join(
        [sys.executable, "-P", "-m", "m0_conformance.saboteur", "--defect", defect.name, "--worker", worker]
    )
    wanted = [] if full else list(dict.fromkeys((*defect.kills, *defect.watch, *SENTINELS)))
    return RunOptions(worker_command=command, report_dir=folder, profile="m0-process", requirement=wanted)


def read_result(defect: type[Defect], folder: Path, ended: Ended) -> Result:
    """What a run that is over has shown."""
    result = Result(defect, seconds=ended.seconds)
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


def gaps(registry: Registry, kinds: Sequence[type[Defect]]) -> list[str]:
    """What the catalogue owes: a defect or a reason for every clause, and no defect of a clause that is not judged."""
    kills = {kind.name: kind.kills for kind in kinds if not kind.oddity}
    return coverage(registry, {}, kills, {kind.name: kind.collateral for kind in kinds}).problems("defect")


def perform(options: argparse.Namespace) -> int:
    """The whole matrix; 0 when every gate holds."""
    begun = time.monotonic()
    chosen = catalogue()
    truth = chosen.pop("truth")
    if options.only:
        missing = sorted(set(options.only) - set(chosen))
        if missing:
            raise ValueError(f"no such defect: {', '.join(missing)}")
        chosen = {name: kind for name, kind in chosen.items() if name in options.only}
    kinds = [*chosen.values()]
    registry, digests = load_registry(), files()
    reasons = {name: clause.no_defect for name, clause in registry.clauses.items() if clause.no_defect}
    problems = [] if options.only else gaps(registry, kinds)
    base, results = Result(truth), []
    preload()
    with tempfile.TemporaryDirectory(prefix="m0-selftest-") as scratch:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a thousand processes start: each would compile its imports
        # The baseline takes longest, so it goes first; nothing is published unless it is green.
        queue = [*([] if options.only else [truth]), *kinds]
        wanted = [
            (options_of(kind, options.worker, Path(scratch) / kind.name, full=options.full or kind is truth), kind)
            for kind in queue
        ]
        runs = [(chosen_options, chosen_options.report_dir) for chosen_options, _ in wanted]
        limits = [FULL_LIMIT_S if kind is truth else RUN_LIMIT_S for kind in queue]

        def matrix_of(run_suite: Callable[[RunOptions], None]) -> None:
            nonlocal base
            for ended in run_all(run_suite, runs, options.jobs, limits):
                kind = queue[ended.number]
                result = read_result(kind, Path(scratch) / kind.name, ended)
                say(result)
                if kind is truth:
                    base = result
                else:
                    results.append(result)
                if options.keep:
                    shutil.copytree(Path(scratch) / kind.name, options.keep / kind.name, dirs_exist_ok=True)
                shutil.rmtree(Path(scratch) / kind.name, ignore_errors=True)

        collected(matrix_of)
    results.sort(key=lambda result: kinds.index(result.defect))
    matrix = as_json(base, results, reasons, time.monotonic() - begun)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    whole = {"matrix": matrix, "only": options.only, "files": digests}
    options.output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return conclude(base, results, problems, matrix)


def as_json(base: Result, results: Sequence[Result], reasons: dict[str, str], seconds: float) -> dict[str, Any]:
    """report.json's `kill_matrix`."""
    return {
        "baseline": "green" if base.good else "red",
        "duration_s": round(seconds, 1),
        "defects": [
            {
                "id": result.defect.name,
                "what": result.defect.about,
                "source": result.defect.source or None,
                "kills": sorted(result.defect.kills),
                "collateral": sorted(result.defect.collateral),
                "failed": sorted(result.failed),
                "caught": result.good,
            }
            for result in results
            if not result.defect.oddity
        ],
        "oddities": [
            {
                "id": result.defect.name,
                "what": result.defect.about,
                "failed": sorted(result.failed),
                "flagged": not result.good,
            }
            for result in results
            if result.defect.oddity
        ],
        "unfalsified": [{"clause": name, "reason": reason} for name, reason in sorted(reasons.items())],
    }


def conclude(base: Result, results: Sequence[Result], problems: list[str], matrix: dict[str, Any]) -> int:
    """Print the gates; the exit code."""
    numbers = counts(matrix)
    bad = [result for result in results if not result.good]
    for line in problems:
        write(f"GAP     {line}")
    for result in bad:
        write(f"{'FLAGGED' if result.defect.oddity else 'MISSED '} {result.defect.name}: {result.words()}")
    if not base.good:
        write(f"BASELINE RED: {base.words()}")
    write(
        f"kills {numbers['killed']}/{numbers['defects']} seeded defects, "
        f"{numbers['benign_flagged']}/{numbers['benign']} oddities flagged, "
        f"{len(matrix['unfalsified'])} clauses unfalsified with a reason, {matrix['duration_s']:.0f} s"
    )
    return 0 if base.good and not bad and not problems else 1


def say(result: Result) -> None:
    """One line as soon as it is known."""
    word = "ok  " if result.good else "BAD "
    write(f"{word} {result.defect.name:<34} {result.seconds:5.1f} s  {result.words()}")


def write(line: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `m0-conformance selftest`."""
    parser.add_argument("--worker", default=None, help="command of the worker to lie about; default: the bundled one")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="just these; repeatable")
    parser.add_argument("--full", action="store_true", help="every check for every defect (slow)")
    processors = os.cpu_count() or 2
    # A run waits now and then, so one more than processors; many more, and jobs that should meet may not be seen to.
    parser.add_argument("--jobs", type=int, default=processors + 1, help="runs at a time; default: %(default)s")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="keep the reports of all runs here")
    parser.add_argument("--output", type=Path, default=Path(RESULT), help="default: %(default)s")


def main(options: argparse.Namespace) -> int:
    """Run with parsed options."""
    if options.worker is None:
        options.worker = shlex.join([sys.executable, "-P", "-m", "m0_worker", "--device", "cpu"])
    return perform(options)

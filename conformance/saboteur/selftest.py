"""`m0-conformance selftest`: every defect must turn exactly its clauses red, every oddity none.

Each run is the real command line against the real worker behind the saboteur, with the checks of the defect's own
clauses and a fixed set of sentinel checks; `--full` runs every check for every defect. The truth-telling saboteur is
judged by all checks first: without a green baseline nothing that follows means anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.registry import load_registry
from conformance.saboteur.catalogue import catalogue
from conformance.saboteur.matrix import counts, publish

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from conformance.registry import Registry
    from conformance.saboteur.defect import Defect

SENTINELS = ("M0-W-1310/event-names", "M0-W-1320/status", "M0-W-1330/accepts", "M0-W-1422/absent-string")
"""Clauses whose checks accompany every defect: ordinary streams, /health, cancel, stop strings."""
RUN_LIMIT_S = 240.0
OUTSIDE = frozenset({"wire", "cli", "process", "log", "timing"})
UNFALSIFIED = Path(__file__).with_name("unfalsified.toml")


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


def red(report: dict[str, Any], baseline: frozenset[tuple[str, str]] = frozenset()) -> set[tuple[str, str]]:
    """(clause, status) of active clauses that are FAIL, or WARN where the undisturbed worker was not."""
    seen = {
        (clause["id"], clause["status"])
        for requirement in report["requirements"]
        for clause in requirement["clauses"]
        if clause["disposition"] == "active" and clause["status"] in {"FAIL", "WARN"}
    }
    return seen - baseline


def trouble(report: dict[str, Any], defect: type[Defect]) -> str:
    """Words for a run that shows nothing: errors of the suite, or a worker that never came up."""
    clauses = [clause for requirement in report["requirements"] for clause in requirement["clauses"]]
    for clause in clauses:
        if clause["status"] == "ERROR":
            return f"the suite itself failed on {clause['id']}: {clause['reason']}"
        if clause["status"] == "BLOCKED" and clause["id"] in defect.kills and not defect.crashes:
            return f"{clause['id']} is blocked: {clause['reason']}"
    return ""


async def run_one(
    defect: type[Defect], worker: str, folder: Path, *, full: bool, baseline: frozenset[tuple[str, str]]
) -> Result:
    """Judge the worker behind one defect."""
    begun = time.monotonic()
    command = shlex.join([sys.executable, "-m", "conformance.saboteur", "--defect", defect.name, "--worker", worker])
    arguments = ["run", "--worker-command", command, "--report-dir", str(folder), "--profile", "m0-process"]
    if not full:
        wanted = dict.fromkeys((*defect.kills, *defect.collateral, *SENTINELS))
        arguments += [f"--requirement={clause}" for clause in wanted]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "conformance",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    result = Result(defect)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), RUN_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        result.trouble = f"the run did not end within {RUN_LIMIT_S:g} s"
        return result
    result.seconds = time.monotonic() - begun
    path = folder / "report.json"
    if not path.exists():
        result.trouble = f"no report: {output.decode(errors='replace').strip()[-300:]}"
        return result
    report = json.loads(await asyncio.to_thread(path.read_text, encoding="utf-8"))
    result.trouble = trouble(report, defect)
    result.failed = {clause for clause, _ in red(report, baseline)}
    return result


def owed(registry: Registry, profile: str = "m0-process") -> set[str]:
    """Active clauses that can be seen from outside on this host: each owes a defect."""
    judged = {clause.id: clause for clause in registry.judged(profile)}
    return {name for name, clause in judged.items() if clause.observable in OUTSIDE and clause.status == "active"}


def unfalsified() -> dict[str, str]:
    """Clauses that no defect can turn red, each with its reason."""
    value = tomllib.loads(UNFALSIFIED.read_text(encoding="utf-8"))
    return {str(name): str(reason) for name, reason in value.items()}


def gaps(registry: Registry, defects: Sequence[type[Defect]], reasons: dict[str, str]) -> list[str]:
    """What the catalogue owes: clauses without a defect or a reason, unknown clauses, needless reasons."""
    killed = {clause for defect in defects for clause in defect.kills}
    named = killed | {clause for defect in defects for clause in defect.collateral}
    wanted = owed(registry)
    problems = [
        f"{name}: no defect, and no reason in {UNFALSIFIED.name}" for name in sorted(wanted - killed - set(reasons))
    ]
    problems += [f"{name}: a defect names this clause, but it is not judged" for name in sorted(named - wanted)]
    problems += [f"{name}: has a reason in {UNFALSIFIED.name}, and a defect" for name in sorted(killed & set(reasons))]
    return problems + [f"{name}: a reason for a clause that owes nothing" for name in sorted(set(reasons) - wanted)]


async def perform(options: argparse.Namespace) -> int:
    """The whole matrix; 0 when every gate holds."""
    begun = time.monotonic()
    registry = load_registry()
    known = {name: kind for name, kind in catalogue().items() if not options.only or name in options.only}
    truth = catalogue()["truth"]
    defects = [kind for kind in known.values() if not kind.oddity]
    oddities = [kind for kind in known.values() if kind.oddity and kind is not truth]
    reasons = unfalsified()
    problems = [] if options.only else gaps(registry, defects, reasons)
    with tempfile.TemporaryDirectory(prefix="m0-selftest-") as scratch:
        room = Path(scratch)
        base = Result(truth)
        if not options.only:
            base = await run_one(truth, options.worker, room / "truth", full=True, baseline=frozenset())
            say(base)
        waiting = asyncio.Semaphore(options.jobs)

        async def one(kind: type[Defect]) -> Result:
            async with waiting:
                folder = room / kind.name
                result = await run_one(kind, options.worker, folder, full=options.full, baseline=frozenset())
                say(result)
                if not options.keep:
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                return result

        results = await asyncio.gather(*(one(kind) for kind in (*defects, *oddities)))
        if options.keep:
            shutil.copytree(room, options.keep, dirs_exist_ok=True)
    matrix = as_json(base, results, reasons, time.monotonic() - begun)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(matrix, indent=1) + "\n", encoding="utf-8")
    return conclude(base, results, problems, matrix, options)


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


def conclude(
    base: Result, results: Sequence[Result], problems: list[str], matrix: dict[str, Any], options: argparse.Namespace
) -> int:
    """Print the gates; publish a clean matrix when asked; the exit code."""
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
    clean = base.good and not bad and not problems
    if options.publish and clean and not options.only:
        publish(matrix)
        write("published: the next reports carry this matrix")
    return 0 if clean else 1


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="runs at a time; default: %(default)s")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="keep the reports of all runs here")
    parser.add_argument("--publish", action="store_true", help="put a clean matrix into the suite, for its reports")
    parser.add_argument(
        "--output", type=Path, default=Path("reports/selftest/kill_matrix.json"), help="default: %(default)s"
    )


def main(options: argparse.Namespace) -> int:
    """Run with parsed options."""
    if options.worker is None:
        options.worker = shlex.join([sys.executable, "-m", "worker", "--device", "cpu"])
    return asyncio.run(perform(options))

"""`m0-conformance selftest --personas`: whole workers, each judged by every check, held against what it really does.

Everything that a persona breaks must be FAIL (or WARN, where the demand is a SHOULD), and nothing else; what cannot be
judged about it must be what its declaration says, each with a sentence of its own; and its causes must be named.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.run.options import RunOptions
from m0_conformance.run.pytest_session import collected
from m0_conformance.saboteur.personas import PREFIX, Persona, personas
from m0_conformance.saboteur.runner import OUTPUT, Ended, preload, run_all

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

LIMIT_S = 720.0
AT_ONCE = 2
"""Whole runs start workers of their own side by side; more at once, and jobs that should meet may not."""
OPEN = {"NOT_TESTED", "BLOCKED", "INCONCLUSIVE"}


@dataclass(slots=True)
class Seen:
    """What one run said about a persona."""

    persona: Persona
    fails: set[str] = field(default_factory=set)
    not_tested: set[str] = field(default_factory=set)
    causes: list[str] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)
    """Clauses without a verdict that say nothing of their own about why."""
    trouble: str = ""
    seconds: float = 0.0

    def complaints(self) -> list[str]:
        """What differs from the declaration, a line each."""
        if self.trouble:
            return [self.trouble]
        may = self.persona.may
        pairs = (
            ("not seen broken", self.persona.fails - self.fails),
            ("broken falsely", self.fails - self.persona.fails),
            ("without a verdict", self.not_tested - self.persona.not_tested - may),
            ("judged unexpectedly", self.persona.not_tested - self.not_tested - self.fails - may),
            ("without a reason of their own", set(self.wordless)),
            ("causes not named", set(self.persona.causes) - set(self.causes)),
            ("causes named falsely", set(self.causes) - set(self.persona.causes)),
        )
        return [f"{words}: {', '.join(sorted(names))}" for words, names in pairs if names]


def read(persona: Persona, report: dict[str, Any]) -> Seen:
    """From a report; what needs an NVIDIA device is no matter of a persona."""
    seen = Seen(persona)
    for requirement in report["requirements"]:
        for clause in requirement["clauses"]:
            reason = str(clause["reason"] or "")
            if clause["disposition"] != "active" or reason == "needs an NVIDIA device":
                continue
            if clause["status"] in {"FAIL", "WARN"}:
                seen.fails.add(clause["id"])
            elif clause["status"] in OPEN:
                seen.not_tested.add(clause["id"])
                if len(reason.split()) < MIN_WORDS:
                    seen.wordless.append(clause["id"])
            elif clause["status"] == "ERROR":
                seen.trouble = f"the suite itself failed on {clause['id']}: {reason}"
    seen.causes = [cause["name"] for cause in report.get("causes") or []]
    return seen


MIN_WORDS = 3


def options_of(persona: Persona, worker: str, folder: Path) -> RunOptions:
    """What the persona's owner would type."""
    command = shlex.join(
        [sys.executable, "-P", "-m", "m0_conformance.saboteur", "--defect", PREFIX + persona.name, "--worker", worker]
    )
    return RunOptions(worker_command=command, report_dir=folder, profile="m0-process", **persona.options)


def read_folder(persona: Persona, folder: Path, ended: Ended) -> Seen:
    """What a run that is over has shown."""
    path = folder / "report.json"
    if ended.timed_out or not path.exists():
        seen = Seen(persona, trouble="the run did not end in time" if ended.timed_out else "no report")
        output = folder / OUTPUT
        if output.exists():
            seen.trouble += ": " + output.read_text(encoding="utf-8", errors="replace").strip()[-300:]
    else:
        seen = read(persona, json.loads(path.read_text(encoding="utf-8")))
    seen.seconds = ended.seconds
    return seen


def perform(options: argparse.Namespace) -> int:
    """Every persona, or those named with --only; 0 when each is seen as it is."""
    chosen = personas()
    if unknown := sorted(set(options.only) - set(chosen)):
        raise ValueError(f"no such persona: {', '.join(unknown)}; known: {', '.join(chosen)}")
    queue = [persona for name, persona in chosen.items() if not options.only or name in options.only]
    bad: list[Seen] = []
    preload()
    with tempfile.TemporaryDirectory(prefix="m0-personas-") as scratch:
        runs = [(options_of(one, options.worker, Path(scratch) / one.name), Path(scratch) / one.name) for one in queue]

        def judge_all(run_suite: Callable[[RunOptions], None]) -> None:
            for ended in run_all(run_suite, runs, min(options.jobs, AT_ONCE), [LIMIT_S] * len(runs)):
                persona, folder = queue[ended.number], runs[ended.number][1]
                seen = read_folder(persona, folder, ended)
                say(seen)
                if seen.complaints():
                    bad.append(seen)
                if options.keep:
                    shutil.copytree(folder, options.keep / persona.name, dirs_exist_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

        collected(judge_all)
    sys.stdout.write(f"{len(queue) - len(bad)} of {len(queue)} personas seen exactly as they are\n")
    return 1 if bad else 0


def say(seen: Seen) -> None:
    """A line as soon as it is known, and one for each difference."""
    complaints = seen.complaints()
    parts = len(seen.persona.parts)
    sys.stdout.write(
        f"{'BAD ' if complaints else 'ok  '} {seen.persona.name:<24} {seen.seconds:6.1f} s  {parts} deviations, "
        f"{len(seen.fails)} clauses broken, {len(seen.not_tested)} not judged\n"
    )
    sys.stdout.writelines(f"       {line}\n" for line in complaints)
    sys.stdout.flush()

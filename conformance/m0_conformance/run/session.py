"""One run from options to exit code: which target, which profile, what was collected, and the report at the end."""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import fnmatch
import hashlib
import json
import re
import struct
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from m0_conformance.judging.expected import Expected, Ledger, read_expected
from m0_conformance.judging.outcome import Outcome, RunFacts
from m0_conformance.judging.verdict import roll_up
from m0_conformance.recording.redact import hide
from m0_conformance.recording.route import Route
from m0_conformance.recording.store import RunStore
from m0_conformance.report.document import write_report
from m0_conformance.run.interrupt import leave_be, reason
from m0_conformance.run.limits import Limits, deadline_s
from m0_conformance.run.plan import BUDGET_S, FAST_S, REPEATS, Plan
from m0_conformance.run.progress import Progress
from m0_conformance.spec.check_sets import ANY, frozen_checks, renamed
from m0_conformance.spec.kill_matrix import counts, published
from m0_conformance.spec.registry import Registry, load_registry
from m0_conformance.targets import Command, bundled_command, nvidia_device, parse_command, parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from m0_conformance.judging.finding import Finding, Status
    from m0_conformance.recording.transcript import Json
    from m0_conformance.run.doctor import Diagnosis
    from m0_conformance.run.harness import Harness
    from m0_conformance.run.options import RunOptions

SUITE = "m0-conformance"
HURRY = 4.0
"""With --fast, jobs that only have to last a while are so much shorter."""
EXIT_CONFORMANT, EXIT_DEVIATION, EXIT_USAGE, EXIT_OPEN, EXIT_SUITE = 0, 1, 2, 3, 4


def suite_version() -> str:
    """Version of the installed suite, or of the source tree that it is run from without being installed."""
    try:
        return version(SUITE)
    except PackageNotFoundError:
        source = Path(__file__).parents[3] / "worker" / "m0_worker" / "__init__.py"  # where the version is kept
        with contextlib.suppress(OSError):
            if found := re.search(r'^__version__ = "(.+)"$', source.read_text(encoding="utf-8"), re.MULTILINE):
                return found[1]
        return "0+unknown"


def make_target(options: RunOptions) -> tuple[Command | None, tuple[str, int] | None]:
    """The command or the address to judge; without either, the bundled worker. Raises ValueError with a sentence."""
    _check_surroundings(options)
    if options.worker_url is not None and options.worker_command is not None:
        raise ValueError("--worker-url and --worker-command exclude each other; give one")
    if options.worker_url is not None:
        return None, parse_url(options.worker_url)
    return (parse_command(options.worker_command) if options.worker_command is not None else bundled_command()), None


def choose_profile(options: RunOptions, command: Command | None) -> str:
    """The profile asked for, or the largest this situation allows."""
    if options.profile is not None:
        return options.profile
    if options.fast:
        return "m0-wire"
    if command is None:
        return "m0-wire"
    return "m0" if nvidia_device() is not None else "m0-process"


def testset_digest(collected: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 over every check's name and clauses."""
    canonical = json.dumps({check: sorted(clauses) for check, clauses in collected.items()}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Run:
    """Options, target, progress and result of one run."""

    crashes: ClassVar[list[str]] = []
    """What pytest reported as its own or a module's failure."""

    def __init__(self, options: RunOptions, registry: Registry, store: RunStore) -> None:
        self.options = options
        self.registry = registry
        self.store = store
        self.command, self.address = make_target(options)
        self.profile = choose_profile(options, self.command)
        self.progress = Progress()
        self.plan = self._plan()
        self.limits = Limits(deadline_s(options.deadline, self.plan.budget_s), store)
        self.harness: Harness | None = None
        self.collected: dict[str, tuple[str, ...]] = {}
        self.failed = False
        self.selected = 0
        """Checks that are to be run."""
        self.outcome: Outcome | None = None
        self.report: dict[str, Json] | None = None
        self.ledger: Ledger | None = None
        self.expected: list[Expected] = []
        self._started = dt.datetime.now(dt.UTC)

    @classmethod
    def begin(cls, options: RunOptions) -> Run:
        """Open a run. Raises ValueError (usage), RegistryError, OSError (the report folder)."""
        registry = load_registry()
        make_target(options)  # complain before the last run's report is touched
        _check_real_model(options)
        _check_selection(options, registry)
        expected = read_expected(options.expected) if options.expected is not None else []
        run = cls(options, registry, RunStore(options.report_dir))
        run.expected = expected
        run.store.line(
            "header",
            suite=SUITE,
            version=suite_version(),
            registry=registry.digest,
            profile=run.profile,
            target=run.target_json(),
            started=run._started.isoformat(timespec="seconds"),
            options=options.as_json(),
        )
        return run

    def _plan(self) -> Plan:
        """--budget, or what is usual: a minute with --fast, ten for a run that needs no device."""
        options = self.options
        unlimited = self.profile == "m0" or options.real_model is not None
        usual = FAST_S if options.fast else None if unlimited else BUDGET_S
        return Plan(usual if options.budget is None else options.budget * 60.0, HURRY if options.fast else 1.0)

    # ---- during the run ---------------------------------------------------------------------------------------

    def wanted(self, check: str, clauses: Sequence[str]) -> bool:
        """Whether a check of these clauses belongs to this run."""
        asked = [self.options.requirement] if self.options.requirement else []
        if self.options.repeats is not None and check.startswith(REPEATS):
            asked = [self.options.repeats]
        if any(not any(_matches(clause, globs) for clause in clauses) for globs in asked):
            return False
        inside = {
            clause.id for clause in (*self.registry.in_profile(self.profile), *self.registry.in_profile("m1-preview"))
        }
        return any(clause in inside for clause in clauses)

    def ending(self, why: str) -> None:
        """The run has been asked to end."""
        self.progress.say(f"{why}: ending the check and the workers")

    def show_diagnosis(self, diagnosis: Diagnosis) -> None:
        """Show what the doctor found."""
        for fine, sentence in diagnosis.sentences:
            self.progress.say(f"{'ok  ' if fine else 'LOOK'} {sentence}")
        if diagnosis.usable and self.harness is not None:
            checks = [name for name, clauses in self.collected.items() if self.wanted(name, clauses)]
            self.progress.say(self.plan.estimate(checks, self.profile, self.harness.calibration))

    def check_done(self, check: str, status: Status, seconds: float, broken: list[Finding]) -> None:
        """A check is recorded and judged."""
        gating = [
            f
            for f in broken
            if (clause := self.registry.clauses.get(f.clause))
            and clause.status == "active"
            and self.wanted(check, [f.clause])
        ]
        self.failed = self.failed or bool(gating)
        self.store.line("check", check=check, status=status.value, seconds=round(seconds, 3))
        self.progress.check(check, status, gating)

    @classmethod
    def crash(cls, text: str) -> None:
        """Remember a failure of the suite for the command line to show."""
        cls.crashes.append(text)

    # ---- the end ----------------------------------------------------------------------------------------------

    def target_json(self) -> dict[str, Json]:
        """report.json's `target`."""
        identity = self.harness.identity if self.harness is not None else {}
        device = self.harness.device if self.harness is not None else None
        notes = {
            "cpu": "The weights are not in an NVIDIA device's memory: no VRAM requirement can pass here.",
            "cuda": "The weights are in an NVIDIA device's memory.",
            None: "The worker did not say where its weights are, and its host cannot be asked.",
        }
        return {
            "kind": "url" if self.command is None else "command",
            "url": self.options.worker_url,
            "command": None
            if self.command is None
            else ("bundled worker" if self.command.bundled else str(self.command)),
            "identity": identity,
            "device": device,
            "device_note": notes[device],
        }

    def facts(self, *, interrupted: bool) -> RunFacts:
        """Everything the verdict needs besides the findings."""
        duration = (dt.datetime.now(dt.UTC) - self._started).total_seconds()
        matrix = published()
        options = self.options.as_json()
        if interrupted:
            options["interrupted"] = True
            if reason():
                options["ended_early"] = reason()
        if self.harness is not None:
            options |= self.harness.notes()
        return RunFacts(
            profile=self.profile,
            suite={
                "name": SUITE,
                "version": suite_version(),
                "registry_sha": self.registry.digest,
                "testset_sha": testset_digest(self.collected),
                "selftest": None if matrix is None else counts(matrix),
            },
            target=self.target_json(),
            run={
                "started": self._started.isoformat(timespec="seconds").replace("+00:00", "Z"),
                "duration_s": round(duration, 3),
                "seed": self.options.seed,
                "options": options,
                "timing": {
                    "floor_us": self.harness.floor_us if self.harness is not None else None,
                    "scale": self.options.timing_scale,
                },
            },
            collected=self.collected,
            expected_checks=frozen_checks(self.profile),
            known_checks=frozen_checks(ANY) or frozenset(),
            renamed=renamed(),
            filtered=bool(self.options.requirement) or self.options.repeats is not None,
            interrupted=interrupted,
            kill_matrix=matrix,
            reports=str(self.options.report_dir),
        )

    def end(self, *, interrupted: bool = False) -> int:
        """Roll up, write report.json, close the NDJSON with its footer; the exit code."""
        leave_be()
        self.progress.end()
        if self.plan.left_out:
            self.progress.say(f"{len(self.plan.left_out)} checks did not fit: {', '.join(self.plan.left_out)}")
        harness = self.harness
        recordings = harness.recordings if harness is not None else {}
        findings = harness.findings if harness is not None else []
        outcome = roll_up(self.registry, recordings, findings, self.facts(interrupted=interrupted))
        self.outcome = outcome
        if self.options.expected is not None:
            self.ledger = Ledger.of(self.expected, outcome, self.registry)
            outcome.report["expected_ledger"] = self.ledger.as_json()
        self.report = write_report(outcome.report, self.options.report_dir / "report.json")
        self.store.footer(verdict=outcome.verdict, digest=self.report["digest"])
        return exit_code(outcome, self.ledger, allow_partial=self.options.allow_partial)


def _matches(clause: str, globs: Sequence[str]) -> bool:
    """Whether a clause, or its requirement, is asked for."""
    return any(fnmatch.fnmatchcase(name, glob) for name in (clause, clause.split("/", maxsplit=1)[0]) for glob in globs)


def _check_selection(options: RunOptions, registry: Registry) -> None:
    """Raises ValueError with the nearest ids where a pattern matches no clause: a typo is no clean run."""
    names = sorted({*registry.clauses, *(clause.partition("/")[0] for clause in registry.clauses)})
    asked = [("--requirement", glob) for glob in options.requirement]
    asked += [("--repeats", glob) for glob in options.repeats or [] if glob != "none"]
    for option, glob in asked:
        if not any(_matches(clause, [glob]) for clause in registry.clauses):
            near = difflib.get_close_matches(glob, names, 8, 0.5)
            cure = f"nearest: {', '.join(near)}" if near else "`m0-conformance list` shows all"
            raise ValueError(f"{option} {glob} matches no requirement and no clause; {cure}")


def _check_surroundings(options: RunOptions) -> None:
    """Raises ValueError for a header, path, variable or shape that cannot be."""
    for _, value in Route.parse(options.path, options.header).headers:
        hide(value)
        hide(value.rpartition(" ")[2])
    for value in options.environment.values():
        hide(value)
    if options.shape is not None and options.shape_like is not None:
        raise ValueError("--shape and --shape-like exclude each other; give one")
    if options.likeness is not None:
        from m0_models.named import likeness  # noqa: PLC0415 - only with the option: NumPy takes its time

        try:
            likeness(options.likeness)
        except (OSError, KeyError, struct.error) as error:
            raise ValueError(f"--shape-like {options.likeness}: no GGUF file that can be read ({error})") from error


def _check_real_model(options: RunOptions) -> None:
    """Raises ValueError where --real-model is no file that its checks can work with."""
    path = options.real_model
    if path is None:
        return
    from m0_models.scan import Scan  # noqa: PLC0415 - only with the option: the gguf package takes its time

    if options.worker_url is not None:
        raise ValueError("--real-model needs a worker that we start: give --worker-command, not --worker-url")
    try:
        Scan(path)
    except (OSError, ValueError, KeyError, struct.error, OverflowError) as error:
        raise ValueError(f"--real-model {path}: no GGUF file that can be read ({error}); give another") from error


def exit_code(outcome: Outcome, ledger: Ledger | None, *, allow_partial: bool) -> int:
    """0 conformant, or all deviations expected · 1 unexpected deviation or stale expectation · 3 open."""
    if ledger is not None and not ledger.clean:
        return EXIT_DEVIATION
    if outcome.verdict == "CONFORMANT":
        return EXIT_CONFORMANT
    if outcome.verdict == "NON_CONFORMANT":
        return EXIT_CONFORMANT if ledger is not None else EXIT_DEVIATION
    if outcome.verdict == "PARTIAL" and allow_partial:
        return EXIT_CONFORMANT
    return EXIT_OPEN


def print_crashes() -> None:
    """Show what went wrong inside the suite."""
    for text in Run.crashes:
        sys.stderr.write(text.rstrip() + "\n")
    Run.crashes.clear()

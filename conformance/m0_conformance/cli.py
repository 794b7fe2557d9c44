"""The command line: run, list, explain, doctor, report, rejudge, verify, diff, matrix, replay, selftest, spec.

Exit codes: 0 conformant, or every deviation expected · 1 unexpected deviation or stale expectation · 2 usage or
registry error · 3 inconclusive, partial, or never ready · 4 the suite itself failed: nothing is said about the worker.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.recording.store import StoreError
from m0_conformance.report.document import ReportError
from m0_conformance.run.options import DEFAULT_REPORT_DIR, RunOptions, add_options
from m0_conformance.run.pytest_session import collect_checks, run_checks
from m0_conformance.run.session import EXIT_CONFORMANT, EXIT_OPEN, EXIT_SUITE, EXIT_USAGE, Run, print_crashes
from m0_conformance.saboteur.selftest import add_arguments as saboteur_arguments
from m0_conformance.spec.explain import UnknownNameError
from m0_conformance.spec.kill_matrix import RESULT
from m0_conformance.spec.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, do, and return the exit code; every foreseeable trouble is one sentence on stderr."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        return int(options.action(options))
    except (ValueError, ReportError, StoreError, UnknownNameError) as error:  # every own usage error is a ValueError
        return complain(str(error))
    except BrokenPipeError:
        _silence()
        return EXIT_SUITE
    except OSError as error:
        return complain(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
    except KeyboardInterrupt:
        return complain("interrupted", EXIT_OPEN)
    except Exception:  # noqa: BLE001 - Python's own code for a traceback is 1, which means a deviation of the worker
        sys.stderr.write(traceback.format_exc())
        return complain("the suite itself failed, see above; this says nothing about the worker", EXIT_SUITE)


def _silence() -> None:
    """Nobody reads our output any more: what is still buffered must not fail once more at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())


def complain(sentence: str, code: int = EXIT_USAGE) -> int:
    """One sentence on stderr, and the exit code."""
    sys.stderr.write(f"m0-conformance: {sentence}\n")
    return code


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    parser = argparse.ArgumentParser(prog="m0-conformance", description="Judge an M0 inference worker from outside.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[Any], int], words: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(action=action)
        return sub

    add_options(command("run", run, "judge a worker and write the report").add_argument)
    add_options(command("doctor", doctor, "five quick looks at a worker, a sentence each").add_argument)
    listing = command("list", list_clauses, "every requirement and clause")
    listing.add_argument("pattern", nargs="?", default="*", help="glob over ids, as 'M0-W-13*'")
    listing.add_argument("--profile", default=None, help="only clauses of this profile")
    listing.add_argument("--status", default=None, help="only clauses of this status: active, deferred, …")
    explain = command("explain", explain_id, "what a requirement or clause demands and how it is judged")
    explain.add_argument("id", help="M0-W-1311 or M0-W-1311/one-terminal")
    report = command("report", render, "render a finished run again")
    report.add_argument("report", type=Path, nargs="?", default=Path(DEFAULT_REPORT_DIR))
    report.add_argument("--format", default="html,junit,md,badge", help="default: %(default)s; also: terminal")
    report.add_argument("--output", type=Path, default=None, help="folder; default: beside the report")
    again = command("rejudge", rejudge_report, "judge stored recordings again, without any socket")
    again.add_argument("report", type=Path, nargs="?", default=Path(DEFAULT_REPORT_DIR))
    again.add_argument("--output", type=Path, default=None, help="write the new report.json here")
    check = command("verify", verify_report, "whether a report is whole, unchanged, and what its recordings say")
    check.add_argument("report", type=Path, nargs="?", default=Path(DEFAULT_REPORT_DIR))
    compare = command("diff", diff_reports, "what changed between two reports")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    replay = command("replay", replay_recording, "send a recording's requests again")
    replay.add_argument("recording", type=Path, help="transcripts/<sha>.json or repro/<id>.json of a report folder")
    where = replay.add_mutually_exclusive_group()
    where.add_argument("--worker-url", metavar="URL", default=None)
    where.add_argument("--worker-command", metavar="CMD", default=None, help="for scripts; default: the bundled worker")
    table = command("matrix", matrix, "several reports side by side")
    table.add_argument("reports", type=Path, nargs="+")
    table.add_argument("--markdown", action="store_true")
    proof = command("selftest", selftest, "prove the suite: seeded defects caught, oddities not flagged")
    saboteur_arguments(proof)
    spec = command(
        "spec", spec_command, "the registry against checks, judges, defects and the spec; publish: freeze and seal"
    )
    spec.add_argument("what", choices=("check", "publish"))
    spec.add_argument("--selftest", type=Path, default=Path(RESULT), help="result to publish; default: %(default)s")
    spec.add_argument("--against", type=Path, default=None, help="a newer spec file")
    return parser


# ---- run ----------------------------------------------------------------------------------------------------------


def run(options: Any) -> int:
    """`conformance run`."""
    if sys.flags.optimize:
        return complain("Python runs with -O or PYTHONOPTIMIZE, which removes asserts; run without", EXIT_SUITE)
    chosen = RunOptions.of(options)
    session = Run.begin(chosen)
    code = run_checks(session)
    if session.outcome is None or session.report is None:
        print_crashes()
        if not session.collected or session.selected:
            return complain("the suite could not run its checks; see above", EXIT_SUITE)
        return complain(f"no check of profile {session.profile} is selected; see `m0-conformance list`")
    print_crashes()
    show(session.report, chosen.report_dir)
    return code


def show(report: dict[str, Any], folder: Path) -> None:
    """Write every view and print the terminal summary."""
    from m0_conformance.report import exports  # noqa: PLC0415 - jinja2 and the page templates are only needed at the end

    exports.write_all(report, folder)
    sys.stdout.write(exports.terminal(report, folder, colour=sys.stdout.isatty()))
    sys.stdout.flush()


# ---- doctor -------------------------------------------------------------------------------------------------------


def doctor(options: Any) -> int:
    """`conformance doctor`."""
    from m0_conformance.run.doctor import examine  # noqa: PLC0415 - the start of every other command stays light
    from m0_conformance.run.harness import Harness  # noqa: PLC0415 - a command pays for its own imports only
    from m0_conformance.run.marks import DEFAULT_LAUNCH  # noqa: PLC0415 - a command pays for its own imports only

    chosen = RunOptions.of(options)
    chosen.report_dir = chosen.report_dir / "doctor"
    session = Run.begin(chosen)

    async def look() -> int:
        harness = Harness(chosen, session.store, command=session.command, address=session.address)
        try:
            diagnosis = await examine(harness, DEFAULT_LAUNCH)
        finally:
            await harness.close()
        for fine, sentence in diagnosis.sentences:
            sys.stdout.write(f"{'ok  ' if fine else 'LOOK'} {sentence}\n")
        return EXIT_CONFORMANT if diagnosis.usable else EXIT_OPEN

    with contextlib.closing(session.store):
        return asyncio.run(look())


# ---- reading reports ----------------------------------------------------------------------------------------------


def render(options: Any) -> int:
    """`conformance report`."""
    from m0_conformance.report import exports  # noqa: PLC0415 - a command pays for its own imports only
    from m0_conformance.report.document import read_report  # noqa: PLC0415 - a command pays for its own imports only

    report = read_report(options.report)
    folder = options.report if options.report.is_dir() else options.report.parent
    names = [name.strip() for name in options.format.split(",") if name.strip()]
    if "terminal" in names:
        names.remove("terminal")
        sys.stdout.write(exports.terminal(report, folder, colour=sys.stdout.isatty()))
    for path in exports.write(report, folder, names, output=options.output or folder):
        sys.stdout.write(f"{path}\n")
    return EXIT_CONFORMANT


def rejudge_report(options: Any) -> int:
    """`conformance rejudge`."""
    from m0_conformance.run.rejudge import rejudge  # noqa: PLC0415 - a command pays for its own imports only

    return rejudge(options.report, options.output)


def verify_report(options: Any) -> int:
    """`conformance verify`."""
    from m0_conformance.run.verify import verify  # noqa: PLC0415 - a command pays for its own imports only

    return verify(options.report)


def diff_reports(options: Any) -> int:
    """`conformance diff`."""
    from m0_conformance.report import exports  # noqa: PLC0415 - a command pays for its own imports only
    from m0_conformance.report.document import read_report  # noqa: PLC0415 - a command pays for its own imports only

    text, changed = exports.diff(read_report(options.a), read_report(options.b))
    sys.stdout.write(text)
    return 1 if changed else 0


def matrix(options: Any) -> int:
    """`conformance matrix`."""
    from m0_conformance.report import exports  # noqa: PLC0415 - a command pays for its own imports only
    from m0_conformance.report.document import read_report  # noqa: PLC0415 - a command pays for its own imports only

    reports = [
        (path.parent.name if path.name == "report.json" else path.name, read_report(path)) for path in options.reports
    ]
    sys.stdout.write(exports.matrix(reports, markdown=options.markdown))
    return EXIT_CONFORMANT


def selftest(options: Any) -> int:
    """`conformance selftest`."""
    from m0_conformance.saboteur.selftest import main as prove  # noqa: PLC0415 - a command pays for its own imports only

    return prove(options)


def replay_recording(options: Any) -> int:
    """`conformance replay`."""
    from m0_conformance.run.replay import replay  # noqa: PLC0415 - a command pays for its own imports only

    return replay(options.recording, options.worker_url, options.worker_command)


# ---- the registry -------------------------------------------------------------------------------------------------


def list_clauses(options: Any) -> int:
    """`conformance list`."""
    from m0_conformance.spec.explain import list_clauses as listed  # noqa: PLC0415 - a command pays for its own imports only

    text = listed(load_registry(), pattern=options.pattern, profile=options.profile, status=options.status)
    sys.stdout.write(text)
    return EXIT_CONFORMANT


def explain_id(options: Any) -> int:
    """`conformance explain`."""
    from m0_conformance.run.proof import proof_of  # noqa: PLC0415 - a command pays for its own imports only
    from m0_conformance.spec.explain import explain  # noqa: PLC0415 - a command pays for its own imports only

    text = explain(load_registry(), options.id, proof_of)
    sys.stdout.write(text)
    return EXIT_CONFORMANT


def spec_command(options: Any) -> int:
    """`conformance spec`."""
    from m0_conformance.run import spec_commands  # noqa: PLC0415 - a command pays for its own imports only

    checks = collect_checks()
    if options.what == "publish":
        return spec_commands.publish(checks, options.selftest)
    return spec_commands.check(options.against, checks)

"""`m0-conformance selftest`: every defect must turn exactly its clauses red, every oddity none.

Beside them runs a sample of conditional defects, drawn by a seed: an action that is restricted to jobs which meet a
condition. Which of them are caught is a figure, and who is missed is named (see `pairs.toml`).

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.run.options import RunOptions
from m0_conformance.run.pytest_session import collected
from m0_conformance.saboteur.catalogue import Truth, catalogue
from m0_conformance.saboteur.pairs import find_conditional, sample
from m0_conformance.saboteur.result import Result, read_result, tally_of
from m0_conformance.saboteur.rows import as_json, conclude, merged, words_of, write
from m0_conformance.saboteur.runner import preload, run_all
from m0_conformance.spec.coverage import coverage
from m0_conformance.spec.kill_matrix import RESULT, published_seed
from m0_conformance.spec.registry import load_registry
from m0_conformance.spec.seal import files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from m0_conformance.saboteur.defect import Defect
    from m0_conformance.spec.registry import Registry

SENTINELS = ("M0-W-1310/event-names", "M0-W-1330/idempotent", "M0-W-1422/absent-string")
"""Clauses whose checks accompany every defect: ordinary streams with /health, cancel, stop strings."""
SAMPLE = 150
"""Conditional defects of a run."""
RUN_LIMIT_S = 150.0
FULL_LIMIT_S = 900.0


def options_of(defect: type[Defect], worker: str, folder: Path, *, full: bool) -> RunOptions:
    """What a user would type to judge the worker behind this defect."""
    tally = ["--tally", str(tally_of(folder))] if defect.condition else []
    command = shlex.join(
        [sys.executable, "-P", "-m", "m0_conformance.saboteur", "--defect", defect.name, *tally, "--worker", worker]
    )
    # What lies about arguments alone is gone before the worker serves: its streams are its own.
    sentinels = () if defect.hooks() == {"arguments"} else SENTINELS
    chosen = dict.fromkeys((*defect.kills, *defect.of_condition, *defect.watch, *sentinels))
    wanted = [] if full else list(chosen)
    # A defect that lies to every job is seen without other conditions; a conditional one where its own clauses are
    # repeated, and the first check that sees it is enough.
    repeats = None if full else [*defect.kills] if defect.condition else ["none"]
    return RunOptions(
        worker_command=command,
        report_dir=folder,
        profile="m0-process",
        requirement=wanted,
        repeats=repeats,
        fail_fast=bool(defect.condition) and not full,
    )


def gaps(registry: Registry, kinds: Sequence[type[Defect]]) -> list[str]:
    """What the catalogue owes: a defect or a reason for every clause, and no defect of a clause that is not judged."""
    kills = {kind.name: kind.kills for kind in kinds if not kind.oddity}
    return coverage(registry, {}, kills, {kind.name: kind.collateral for kind in kinds}).problems("defect")


def chosen_kinds(options: argparse.Namespace) -> list[type[Defect]]:
    """What is to run besides the truth: plain defects and oddities, then the sample of conditional defects.

    Raises:
        ValueError: `--only` names one that is not there.
    """
    known = {name: kind for name, kind in catalogue().items() if name != Truth.name}
    if not options.only:
        drawn: list[type[Defect]] = [pair.defect() for pair in sample(options.conditional, options.seed)]
        kinds = [*known.values(), *drawn]
        return kinds[options.shard[0] - 1 :: options.shard[1]]
    found = {name: known.get(name) or find_conditional(name) for name in options.only}
    missing = sorted(name for name, kind in found.items() if kind is None)
    if missing:
        raise ValueError(f"no such defect: {', '.join(missing)}")
    return [kind for kind in found.values() if kind is not None]


def perform(options: argparse.Namespace) -> int:
    """Run what was chosen, and write the matrix; 0 when every gate holds."""
    begun = time.monotonic()
    kinds = chosen_kinds(options)
    registry, digests = load_registry(), files()
    reasons = {name: clause.no_defect for name, clause in registry.clauses.items() if clause.no_defect}
    base, results = Result(Truth), []
    preload()
    with tempfile.TemporaryDirectory(prefix="m0-selftest-") as scratch:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a thousand processes start: each would compile its imports
        # The baseline takes longest, so it goes first; nothing is published unless it is green.
        queue: list[type[Defect]] = [*([] if options.only else [Truth]), *kinds]
        wanted = [
            (options_of(kind, options.worker, Path(scratch) / kind.name, full=options.full or kind is Truth), kind)
            for kind in queue
        ]
        runs = [(chosen_options, chosen_options.report_dir) for chosen_options, _ in wanted]
        limits = [FULL_LIMIT_S if options.full or kind is Truth else RUN_LIMIT_S for kind in queue]

        def matrix_of(run_suite: Callable[[RunOptions], None]) -> None:
            nonlocal base
            for ended in run_all(run_suite, runs, options.jobs, limits):
                kind = queue[ended.number]
                result = read_result(kind, Path(scratch) / kind.name, ended)
                say(result)
                if kind is Truth:
                    base = result
                else:
                    results.append(result)
                if options.keep:
                    shutil.copytree(Path(scratch) / kind.name, options.keep / kind.name, dirs_exist_ok=True)
                shutil.rmtree(Path(scratch) / kind.name, ignore_errors=True)

        collected(matrix_of)
    results.sort(key=lambda result: kinds.index(result.defect))
    matrix = as_json(base, results, reasons, time.monotonic() - begun, options.seed)
    asked = {"conditional": options.conditional, "seed": options.seed, "full": options.full}
    whole = {"matrix": matrix, "only": options.only, "asked": asked, "shard": list(options.shard), "files": digests}
    return told({**whole, "words": words_of(base, results)}, options.output)


def told(whole: dict[str, Any], output: Path) -> int:
    """Write a result, and say what it means; the exit code."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    kinds = [kind for kind in catalogue().values() if kind is not Truth]
    problems = [] if whole["only"] else gaps(load_registry(), kinds)
    return conclude(problems, whole["words"], whole["matrix"], whole["only"])


def say(result: Result) -> None:
    """One line as soon as it is known."""
    word = "ok  " if result.good else "BAD "
    write(f"{word} {result.defect.name:<34} {result.seconds:5.1f} s  {result.words()}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `m0-conformance selftest`."""
    parser.add_argument("--worker", default=None, help="command of the worker to lie about; default: the bundled one")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="just these; repeatable")
    parser.add_argument("--personas", action="store_true", help="whole workers with many deviations at once instead")
    parser.add_argument("--full", action="store_true", help="every check for every defect (slow)")
    processors = os.cpu_count() or 2
    # A run waits now and then, so one more than processors; many more, and jobs that should meet may not be seen to.
    parser.add_argument("--jobs", type=int, default=processors + 1, help="runs at a time; default: %(default)s")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="keep the reports of all runs here")
    parser.add_argument("--output", type=Path, default=Path(RESULT), help="default: %(default)s")
    parser.add_argument(
        "--conditional", type=int, default=SAMPLE, metavar="N",
        help="how many conditional defects to draw of the catalogue; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=None, help="draws them; default: that of the published matrix")
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="run the I-th of N parts")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], metavar="DIR",
        help="run nothing: put the results of all shards, which lie in these folders, together",
    )  # fmt: skip


def shard(text: str) -> tuple[int, int]:
    """`I/N`. Raises ValueError where there is no such part."""
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError(f"{text}: parts are 1/{of} to {of}/{of}")
    return int(number), int(of)


def main(options: argparse.Namespace) -> int:
    """Run with parsed options."""
    if options.merge:
        return told(merged(options.merge), options.output)
    if options.seed is None:
        options.seed = published_seed()
    if options.worker is None:
        options.worker = shlex.join([sys.executable, "-P", "-m", "m0_worker", "--device", "cpu"])
    if options.personas:
        from m0_conformance.saboteur.persona_run import perform as judge_personas  # noqa: PLC0415 - only for them

        return judge_personas(options)
    return perform(options)

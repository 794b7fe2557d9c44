"""One run of the suite in a forked child: imports and collection are paid for once, the rest is the real run.

The parent holds no event loop and no thread of its own while it forks; each child writes its words into a file and
leaves without running anybody else's clean-up.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_conformance.spec.seal import suite_seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from m0_conformance.run.options import RunOptions

POLL_S = 0.02
GRACE_S = 10.0
"""Between asking a run that takes too long to stop, and stopping it."""
OUTPUT = "output.txt"
PRELOADED = (
    "m0_conformance.run.pytest_session", "m0_conformance.run.doctor", "m0_conformance.run.harness",
    "m0_conformance.recording.transport",
    "pytest_asyncio.plugin", "m0_models.named", "m0_models.probes", "m0_models.corrupt", "m0_models.oversized",
)  # fmt: skip
"""What every run needs; heavy enough to be worth loading once."""


@dataclass(slots=True)
class Running:
    """A child."""

    number: int
    pid: int
    begun: float
    warned: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How one child ended."""

    number: int
    seconds: float
    timed_out: bool


def preload() -> None:
    """Import what the children share. A module that is missing is the run's own trouble."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    suite_seal()  # read once, for every report
    with contextlib.suppress(ImportError):
        for readout in importlib.import_module("m0_models.readouts").readouts().values():
            readout.build()  # seconds of arithmetic, the same for every child


def _child(run_suite: Callable[[RunOptions], None], options: RunOptions, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115 - open until the process ends
    try:
        run_suite(options)
    except BaseException:  # noqa: BLE001 - it is written down, and the missing report says the rest
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_all(
    run_suite: Callable[[RunOptions], None],
    wanted: Sequence[tuple[RunOptions, Path]],
    at_once: int,
    limits: Sequence[float],
) -> Iterator[Ended]:
    """Run each in a child, so many at once; yields each as it ends. A run over its limit in seconds is stopped."""
    waiting = list(enumerate(wanted))
    running: dict[int, Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, (options, folder) = waiting.pop(0)
                sys.stdout.flush()
                sys.stderr.flush()
                pid = os.fork()
                if pid == 0:
                    _child(run_suite, options, folder)
                running[pid] = Running(number, pid, time.monotonic())
            for child in list(running.values()):
                ended = _look(child, limits[child.number])
                if ended is not None:
                    del running[child.pid]
                    yield ended
            time.sleep(POLL_S)
    finally:
        for child in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGINT)


def _look(child: Running, limit: float) -> Ended | None:
    now = time.monotonic()
    if os.waitpid(child.pid, os.WNOHANG)[0] == child.pid:
        return Ended(child.number, now - child.begun, child.warned > 0.0)
    if not child.warned and now - child.begun > limit:
        child.warned = now
        os.kill(child.pid, signal.SIGINT)
    elif child.warned and now - child.warned > GRACE_S:
        os.kill(child.pid, signal.SIGKILL)
    return None

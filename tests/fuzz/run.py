"""Structured mutants, and files that a coverage-guided fuzzer finds: no exception but a refusal, no hang.

    python tests/fuzz/run.py --mutants 40000
    python tests/fuzz/run.py --executions 200000       # needs atheris

A failure is written to --keep with its traceback, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gguf_parts import Parts

HANG_S = 20
FAILURES_KEPT = 20


class Hang(BaseException):
    """A file kept the loader or a job busy for too long."""


def _hang(*_: object) -> None:
    raise Hang(f"more than {HANG_S} s")


class Bench:
    """Tries files one after the other, and keeps those that fail."""

    def __init__(self, outcome: Callable[[Path], str], folder: Path, keep: Path) -> None:
        self._outcome = outcome
        self._path = folder / "model.gguf"
        self._keep = keep
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []

    def attempt(self, data: bytes, name: str) -> None:
        """Load a file and serve a job with it."""
        self._path.write_bytes(data)
        signal.alarm(HANG_S)
        try:
            found = self._outcome(self._path)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (whatever else comes out is what is looked for)
            found = f"FAILED {type(error).__name__}"
            self.failures.append(f"{name}: {traceback.format_exc(limit=-3)}")
            if len(self.failures) <= FAILURES_KEPT:
                self._keep.mkdir(parents=True, exist_ok=True)
                (self._keep / f"{name}.gguf").write_bytes(data)
        finally:
            signal.alarm(0)
        self.outcomes[found] += 1

    def report(self, seconds: float) -> int:
        """Say what became of all files; 0 where none failed."""
        for failure in self.failures[:FAILURES_KEPT]:
            _say(failure)
        for name, count in self.outcomes.most_common():
            _say(f"{count:8} {name}")
        total = sum(self.outcomes.values())
        _say(f"{total:8} files in {seconds:.0f} s, {len(self.failures)} failures")
        return 1 if self.failures or not total else 0


def mutants(bench: Bench, parts: list[Parts], count: int, seed: int) -> None:
    """Structured mutants, by seed and number."""
    from gguf_parts import mutant  # noqa: PLC0415  (imports the worker, which atheris may want to do itself)

    for number in range(count):
        bench.attempt(mutant(parts, random.Random(f"{seed}:{number}")), f"mutant-{seed}-{number}")


def guided(bench: Bench, seeds: list[Path], corpus: Path, executions: int) -> None:
    """Mutants of bytes that reach new branches of the loader and tokenizers; ends the process, as libFuzzer does."""
    import atheris  # noqa: PLC0415  (only here, and only on Linux)

    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / seed.name).write_bytes(seed.read_bytes())
    started, number = time.monotonic(), itertools.count(1)

    def one(data: bytes) -> None:
        done = next(number)
        bench.attempt(data, f"guided-{done}")
        if done == executions:
            code = bench.report(time.monotonic() - started)
            os._exit(code)

    largest = max(seed.stat().st_size for seed in seeds)
    atheris.Setup([sys.argv[0], f"-max_len={largest}", "-len_control=0", "-verbosity=0", str(corpus)], one)
    atheris.Fuzz()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=0)
    parser.add_argument("--executions", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("reports/fuzz"), help="(default: %(default)s)")
    given = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # numbers of a broken model may overflow
    signal.signal(signal.SIGALRM, _hang)
    if given.executions:
        import atheris  # noqa: PLC0415  (only here, and only on Linux)

        with atheris.instrument_imports(include=["m0_worker"]):
            import m0_worker.engine  # noqa: PLC0415  (as atheris sees it)
            import m0_worker.opening  # noqa: F401, PLC0415  (the same)
    from gguf_parts import Parts  # noqa: PLC0415  (after that)
    from served import bases, outcome  # noqa: PLC0415  (the same)

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = bases(folder)
        bench = Bench(outcome, folder, given.keep)
        mutants(bench, [Parts.of(path) for path in files], given.mutants, given.seed)
        if given.executions:
            guided(bench, sorted(files, key=lambda path: path.stat().st_size)[:2], folder / "corpus", given.executions)
        return bench.report(time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())

"""Commands of tokenizer parity, for `python -m m0_parity.tokenizers` and for m0-parity."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from m0_parity.llamacpp import ReferenceUnavailableError
from m0_parity.tokenizers import echo, vectors
from m0_parity.tokenizers.fuzz import (
    BACKENDS,
    HF_JSON,
    decoding_that_differs,
    fuzz,
    opened,
    opened_file,
    pieces_that_differ,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# llama.cpp compiles these patterns anew for each text.
_SLOW: Final = frozenset(("gpt-4o", "llama4", "kanana2", "minimax-m2", "tekken", HF_JSON))
GOLDEN: Final = Path("tests/worker/tokenizers/golden")


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """What fuzzing one vocabulary found."""

    vocabulary: str
    count: int
    decodings: int
    seconds: float
    problem: str
    """Empty where every text and every piece is equal."""


def fuzz_one(vocabulary: str | Path, count: int, seed: int = 0, decodings: int | None = None) -> FuzzResult:
    """Fuzz one vocabulary, made or in a GGUF file: pieces of all tokens, `decodings` id sequences, `count` texts."""
    decodings = count // 10 if decodings is None else decodings
    started = time.perf_counter()
    with opened_file(vocabulary) if isinstance(vocabulary, Path) else opened(vocabulary) as pair:
        pieces = pieces_that_differ(pair)
        decoding = decoding_that_differs(pair, decodings, seed)
        mismatch = fuzz(pair, count, seed)
    problems = [f"{pair.name}: piece {number} is {a!r} here, {b!r} in llama.cpp" for number, a, b in pieces[:5]]
    if decoding is not None:
        problems.append(f"{pair.name}: ids {decoding[0]} decode to {decoding[1]!r}, in llama.cpp to {decoding[2]!r}")
    if mismatch is not None:
        problems.append(mismatch.describe())
    return FuzzResult(pair.name, count, decodings, time.perf_counter() - started, "\n".join(problems))


def fuzz_all(
    vocabularies: Sequence[str | Path], count: int, seed: int = 0, jobs: int = 1, decodings: int | None = None
) -> Iterable[FuzzResult]:
    """Fuzz several vocabularies, `jobs` at a time in processes of their own, the slowest first."""
    order = sorted(vocabularies, key=lambda name: name not in _SLOW)
    if jobs <= 1:
        yield from (fuzz_one(name, count, seed, decodings) for name in order)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(fuzz_one, order, repeat(count), repeat(seed), repeat(decodings))


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add fuzz, vectors and golden to a parser; `run` carries out what it parsed."""
    commands = parser.add_subparsers(dest="tokenizer_command", required=True)
    fuzzing = commands.add_parser("fuzz", help="compare token ids with llama.cpp on generated texts")
    fuzzing.add_argument("--count", type=int, default=10_000, help="texts per vocabulary (default: %(default)s)")
    fuzzing.add_argument("--decodings", type=int, help="id sequences per vocabulary (default: a tenth of the texts)")
    fuzzing.add_argument("--seed", type=int, default=0)
    fuzzing.add_argument("--vocabulary", action="append", choices=BACKENDS, help="only this one; may be repeated")
    fuzzing.add_argument("--model", action="append", type=Path, help="a GGUF file instead; may be repeated")
    fuzzing.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    own = commands.add_parser("vectors", help="check llama.cpp's own vectors of real vocabularies")
    own.add_argument("--vocab-dir", type=Path, required=True, help="folder with ggml-vocab-*.gguf, .inp and .out files")
    golden = commands.add_parser("golden", help="build the golden vectors and compare them with the stored ones")
    golden.add_argument("--write", action="store_true", help="store them instead")
    golden.add_argument("folder", type=Path, nargs="?", default=GOLDEN, help="(default: %(default)s)")
    echoes = commands.add_parser("echo", help="build the echo probes' vectors and compare them with the stored ones")
    echoes.add_argument("--write", action="store_true", help="store them instead")


def run(arguments: argparse.Namespace) -> int:
    """Carry out a parsed command.

    Returns:
        0 all equal, 1 a difference, 2 cannot be tried here.
    """
    try:
        match arguments.tokenizer_command:
            case "fuzz":
                return _fuzz(arguments)
            case "vectors":
                return _vectors(arguments.vocab_dir)
            case "echo":
                return _echo(write=arguments.write)
            case _:
                return _golden(arguments.folder, write=arguments.write)
    except (ReferenceUnavailableError, FileNotFoundError) as error:
        _say(str(error))
        return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m m0_parity.tokenizers", description=__doc__)
    add_commands(parser)
    return run(parser.parse_args(argv))


def _fuzz(arguments: argparse.Namespace) -> int:
    names = [*(arguments.vocabulary or ()), *(arguments.model or ())] or list(BACKENDS)
    failed = 0
    jobs = min(arguments.jobs, len(names))
    for result in fuzz_all(names, arguments.count, arguments.seed, jobs, arguments.decodings):
        verdict = "DIFFERENT" if result.problem else "equal"
        _say(
            f"{result.vocabulary:20} {result.count:7} texts, {result.decodings:6} decodings, seed {arguments.seed}: "
            f"{verdict} ({result.seconds:.1f} s)"
        )
        if result.problem:
            _say(result.problem)
            failed += 1
    return 1 if failed else 0


def _vectors(folder: Path) -> int:
    results = vectors.check(folder)
    for result in results:
        if result.tried:
            _say(f"{result.name:15} {result.equal} of {result.total} equal")
            if result.first_mismatch:
                _say(f"  {result.first_mismatch}")
        else:
            _say(f"{result.name:15} not supported: {result.first_mismatch}")
    return 1 if any(result.tried and result.equal < result.total for result in results) else 0


def _golden(folder: Path, *, write: bool) -> int:
    from m0_parity.tokenizers import golden  # noqa: PLC0415  (needs the tokenizers library, the other commands do not)

    if write:
        for path in golden.write(folder):
            _say(f"wrote {path}")
        return 0
    different = golden.check(folder)
    _say(f"different: {', '.join(different)}" if different else f"{len(golden.FILES)} golden files are as built now")
    return 1 if different else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _echo(*, write: bool) -> int:
    if write:
        for path in echo.write(echo.FOLDER):
            _say(f"{path} written")
        return 0
    different = [name for name in echo.NAMES if echo.build(name)["vectors"] != echo.vectors(name)]
    _say(f"echo vectors that differ: {', '.join(different)}" if different else "all echo vectors are equal")
    return 1 if different else 0

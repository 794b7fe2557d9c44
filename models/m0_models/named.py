"""Every model that code can make, by one kind of name: "PROBE" or "KIND:NAME"."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write(name: str, path: Path) -> tuple[str, dict[str, Any] | None]:
    """Write the model called ``name`` to ``path``; returns the path and, for a probe, what it promises.

    Names: a probe of `m0_models.probes.catalogue`, "corrupt:NAME" of `m0_models.corrupt`, "miniature:NAME" of
    `m0_models.miniatures.zoo`, "readout:NAME" of
    `m0_models.readouts`, "taken:READOUT/MISTAKE" for a read-out as an engine with that mistake takes it,
    "benchmark:NAME" of `m0_models.bulk`.

    Raises:
        KeyError: no such model; its text lists the known ones.
    """
    kind, colon, rest = name.partition(":")
    recipes: dict[str, Any]
    match kind if colon else "probe":
        case "probe":
            recipes, rest = dict(import_module("m0_models.probes").catalogue()), name
        case "corrupt":
            recipes = import_module("m0_models.corrupt").CORRUPT
        case "miniature":
            recipes = {recipe.name: recipe for recipe in import_module("m0_models.miniatures").zoo()}
        case "readout":
            recipes = import_module("m0_models.readouts").readouts()
        case "taken":
            rest, _, mistake = rest.partition("/")
            recipes = import_module("m0_models.readouts").readouts()
            if rest in recipes:
                return str(recipes[rest].build().write_as_taken(path, mistake)), None
        case "benchmark":
            bulk = import_module("m0_models.bulk")
            if rest in bulk.BENCHMARKS:
                shape, quant = bulk.BENCHMARKS[rest]
                return str(bulk.write(path, shape, quant, name=rest)), None
            recipes = dict(bulk.BENCHMARKS)
        case _:
            recipes = {}
    if rest not in recipes:
        kinds = "probes, corrupt:, miniature:, readout:, taken:, benchmark:"
        raise KeyError(f"no model {name!r}; known: {', '.join(recipes) or kinds}")
    made = recipes[rest].write(path)
    return str(getattr(made, "path", made)), getattr(made, "facts", None)

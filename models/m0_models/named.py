"""Every model that code can make, by one kind of name: "PROBE" or "KIND:NAME"."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m0_models.probes.likeness import Likeness


def likeness(shape: str | None) -> Likeness | None:
    """The shape called so, one of M0's reference models or a file; None for None.

    Raises:
        OSError: the file cannot be read.
        ValueError: no such shape, or a file that probes cannot be like.
    """
    if shape is None:
        return None
    probes = import_module("m0_models.probes")
    made: Likeness = probes.of_file(Path(shape)) if shape.endswith(".gguf") else probes.named(shape)
    return made


def write(name: str, path: Path, *, shape: str | None = None, rung: int = 0) -> tuple[str, dict[str, Any] | None]:
    """Write the model called ``name`` to ``path``; returns the path and, for a probe, what it promises.

    ``shape`` (see :func:`likeness`) is for probes of the catalogue, ``rung`` (an index of
    `m0_models.probes.ladder.rungs`) for those of them whose form is not what they test; both leave other models alone.

    Names: a probe of `m0_models.probes.catalogue`, "corrupt:NAME" of `m0_models.corrupt`, "miniature:NAME" of
    `m0_models.miniatures.zoo`, "readout:NAME" of
    `m0_models.readouts`, "taken:READOUT/MISTAKE" for a read-out as an engine with that mistake takes it,
    "benchmark:NAME" of `m0_models.bulk`.

    Raises:
        KeyError: no such model; its text lists the known ones.
        ValueError: the probe does not exist in this shape or form.
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
    keywords = _form(rest, shape, rung) if not colon else {}
    made = recipes[rest].write(path, **keywords)
    return str(getattr(made, "path", made)), getattr(made, "facts", None)


def _form(name: str, shape: str | None, rung: int) -> dict[str, Any]:
    """Keywords for a recipe of the catalogue of probes."""
    ladder = import_module("m0_models.probes.ladder")
    like = None if name.startswith("echo-") else likeness(shape)
    keywords: dict[str, Any] = ladder.rungs(like)[rung].keywords(name)
    return keywords | ({"like": like} if like is not None else {})


def rungs(shape: str | None) -> list[str]:
    """Labels of the forms that :func:`write` knows by number."""
    return [rung.label for rung in import_module("m0_models.probes.ladder").rungs(likeness(shape))]

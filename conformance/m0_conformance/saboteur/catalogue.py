"""All defects and oddities by name: `areas/*/defects.py`, `areas/*/defects.toml` and this folder's `oddities*`."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur import launching, lies, narration
from m0_conformance.saboteur.defect import Defect

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent
KINDS = (lies, launching, narration)
"""Where the classes of lies stand that data may name besides those of its own area."""


class Truth(Defect):
    """No lie at all: shows that the saboteur itself changes nothing."""

    name = "truth"
    about = "A worker behind a proxy that passes everything on."
    oddity = True


def _below(base: type[Defect]) -> Iterator[type[Defect]]:
    for child in base.__subclasses__():
        yield child
        yield from _below(child)


def find(name: str) -> type[Defect] | None:
    """The defect or oddity of this name, with no other area loaded than the one that holds it, if that can be.

    A self-test starts the saboteur a thousand times.
    """
    if name == Truth.name:
        return Truth
    forms = (f'"{name}"', f"def {name.replace('-', '_')}(", f"\n[{name}]")
    for path in files():
        text = path.read_text("utf-8")
        if any(form in text for form in forms):
            load(path)
            found = next((kind for kind in _below(Defect) if kind.name == name), None)
            if found is not None:
                return found
    return catalogue().get(name)


def files() -> list[Path]:
    """The files that hold defects and oddities."""
    areas, own = sorted((PACKAGE / "areas").rglob("defects.*")), sorted((PACKAGE / "saboteur").glob("oddities*.*"))
    return [path for path in (*areas, *own) if path.suffix in {".py", ".toml"}]


_DECLARED: dict[Path, list[type[Defect]]] = {}
"""By file: a class that is not kept is gone at once."""


def load(path: Path) -> None:
    """Import a module, or declare the defects of a TOML file after its module. Raises ValueError naming the entry."""
    if path.suffix == ".toml" and path not in _DECLARED:
        load(path.with_suffix(".py"))
        _DECLARED[path] = [
            declared(path.relative_to(PACKAGE).as_posix(), name, table)
            for name, table in tomllib.loads(path.read_text("utf-8")).items()
        ]
    elif path.suffix == ".py" and path.exists():
        importlib.import_module(".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)))


def declared(where: str, name: str, table: dict[str, Any]) -> type[Defect]:
    """A defect that is data: `lie` is a class of lies, the rest its attributes."""
    kinds = {kind.__name__: kind for kind in _below(Defect)}
    kind = kinds.get(table.get("lie", ""))
    if kind is None:
        raise ValueError(f"{where}: {name} has lie {table.get('lie')!r}; known: {', '.join(sorted(kinds))}")
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items() if key != "lie"}
    unknown = sorted(key for key in own if not hasattr(kind, key))
    if unknown:
        raise ValueError(f"{where}: {name} has the unknown key {unknown[0]!r}; {kind.__name__} does not know it")
    return type(name, (kind,), {**own, "name": name, "file": where})


def catalogue() -> dict[str, type[Defect]]:
    """Name to class. Raises ValueError for a name given twice or a defect that kills nothing."""
    for path in files():
        load(path)
    found: dict[str, type[Defect]] = {}
    for kind in _below(Defect):
        if not kind.name or kind.condition or found.get(kind.name) is kind:  # the same by two bases
            continue
        if kind.name in found:
            raise ValueError(f"two defects are called {kind.name!r}")
        if bool(kind.kills) == kind.oddity:
            raise ValueError(f"{kind.name}: a defect kills at least one clause, an oddity none")
        found[kind.name] = kind
    return found

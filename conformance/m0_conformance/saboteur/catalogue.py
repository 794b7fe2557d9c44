"""All defects and oddities by name, found in `areas/*/defects.py` and `oddities.py`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Defect

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent


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
    """The defect or oddity of this name, with no other module loaded than the one that holds it, if that can be.

    A self-test starts the saboteur a thousand times.
    """
    if name == Truth.name:
        return Truth
    quoted = f'"{name}"'
    for path in files():
        if quoted in path.read_text("utf-8"):
            importlib.import_module(module_of(path))
            found = next((kind for kind in _below(Defect) if kind.name == name), None)
            if found is not None:
                return found
    return catalogue().get(name)


def files() -> list[Path]:
    """The files that hold defects and oddities."""
    return [*sorted((PACKAGE / "areas").rglob("defects.py")), PACKAGE / "saboteur" / "oddities.py"]


def module_of(path: Path) -> str:
    """Import name of a file of this package."""
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))


def catalogue() -> dict[str, type[Defect]]:
    """Name to class. Raises ValueError for a name given twice or a defect that kills nothing."""
    for path in files():
        importlib.import_module(module_of(path))
    found: dict[str, type[Defect]] = {}
    for kind in _below(Defect):
        if not kind.name:
            continue
        if kind.name in found:
            raise ValueError(f"two defects are called {kind.name!r}")
        if bool(kind.kills) == kind.oddity:
            raise ValueError(f"{kind.name}: a defect kills at least one clause, an oddity none")
        found[kind.name] = kind
    return found

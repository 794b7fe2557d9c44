"""All defects and oddities by name, found in the modules of `conformance/saboteur/defects` and `oddities.py`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.saboteur.defect import Defect

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
MODULES = ("m0_conformance.saboteur.defects", "m0_conformance.saboteur.oddities")


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
    for path in (*sorted(HERE.glob("defects/*.py")), HERE / "oddities.py"):
        if quoted in path.read_text("utf-8"):
            importlib.import_module(f"{__package__}.{'.'.join(path.relative_to(HERE).with_suffix('').parts)}")
            found = next((kind for kind in _below(Defect) if kind.name == name), None)
            if found is not None:
                return found
    return catalogue().get(name)


def catalogue() -> dict[str, type[Defect]]:
    """Name to class. Raises ValueError for a name given twice or a defect that kills nothing."""
    for name in MODULES:
        module = importlib.import_module(name)
        for entry in pkgutil.iter_modules(getattr(module, "__path__", [])):
            importlib.import_module(f"{name}.{entry.name}")
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

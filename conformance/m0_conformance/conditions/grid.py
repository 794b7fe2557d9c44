"""Levels, declared by functions: one that tells whether a scene meets the level, with a docstring that says so.

Above it stands `@level("draw", "sampled")`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from m0_conformance.conditions.scene import Scene

Moment: TypeAlias = Literal["request", "company", "token"]
"""When a level is decided: with the request, while others come, or token by token."""


@dataclass(frozen=True, slots=True)
class Level:
    """One value of a dimension."""

    dimension: str
    name: str
    about: str
    """A sentence that holds where the level does."""
    holds: Callable[[Scene], bool]
    moment: Moment = "request"
    usual: bool = False
    """What nearly every job is: a defect with this condition alone is hardly another one than without."""
    clauses: tuple[str, ...] = ()
    """Clauses about this very condition: a worker that is wrong here only breaks them as well."""

    def __str__(self) -> str:
        return f"{self.dimension}={self.name}"


@dataclass(frozen=True, slots=True)
class Dimension:
    """A question about a job that has one answer, or several at once (as characters of a prompt have)."""

    name: str
    levels: dict[str, Level] = field(default_factory=dict)


GRID: dict[str, Dimension] = {}


def level(
    dimension: str, name: str, moment: Moment = "request", *, usual: bool = False, clauses: tuple[str, ...] = ()
) -> Callable[[Callable[[Scene], bool]], Callable[[Scene], bool]]:
    """Declare a level. Raises ValueError for one that is there already."""

    def declare(holds: Callable[[Scene], bool]) -> Callable[[Scene], bool]:
        found = GRID.setdefault(dimension, Dimension(dimension)).levels
        if name in found:
            raise ValueError(f"two levels are called {dimension}={name}")
        about = " ".join((holds.__doc__ or "").split())
        found[name] = Level(dimension, name, about, holds, moment, usual, clauses)
        return holds

    return declare


def levels() -> Iterator[Level]:
    """All of them, dimension by dimension."""
    for dimension in GRID.values():
        yield from dimension.levels.values()


def find(condition: str) -> Level:
    """The level that `dimension=level` names. Raises KeyError naming what there is."""
    dimension, _, name = condition.partition("=")
    if dimension not in GRID:
        raise KeyError(f"no dimension {dimension!r}; there are {', '.join(GRID)}")
    if name not in GRID[dimension].levels:
        raise KeyError(f"no level {name!r} of {dimension}; there are {', '.join(GRID[dimension].levels)}")
    return GRID[dimension].levels[name]

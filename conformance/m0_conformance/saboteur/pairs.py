"""The catalogue of conditional defects: which actions and conditions go together, by the rules of `pairs.toml`."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.conditions import GRID, find
from m0_conformance.saboteur.catalogue import catalogue
from m0_conformance.saboteur.catalogue import find as find_plain
from m0_conformance.saboteur.conditional import Conditional, under

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from m0_conformance.conditions import Level
    from m0_conformance.saboteur.defect import Defect

RULES = Path(__file__).with_name("pairs.toml")


@dataclass(frozen=True, slots=True)
class Pair:
    """An action and a condition."""

    action: type[Defect]
    level: Level
    group: str
    cannot: str = ""
    """Why it is left out; empty for a pair of the catalogue."""

    @property
    def name(self) -> str:
        """As the conditional defect is called."""
        return f"{self.action.name}@{self.level}"

    def defect(self) -> type[Conditional]:
        """The conditional defect."""
        return under(self.action, self.level)


@cache
def rules() -> dict[str, Any]:
    """The tables of `pairs.toml`."""
    return tomllib.loads(RULES.read_text("utf-8"))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names it."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def chosen(conditions: Sequence[str]) -> list[Level]:
    """The levels that `dimension` or `dimension=level` name; of a dimension those that are not usual."""
    found: dict[str, Level] = {}
    for condition in conditions:
        if condition in GRID:
            found |= {str(one): one for one in GRID[condition].levels.values() if not one.usual}
        else:
            found[condition] = find(condition)
    return list(found.values())


def excluded(action: str, level: Level, group: str) -> str:
    """Why the pair is left out; empty when it is not."""
    for rule in rules()["cannot"]:
        of_group = group in rule.get("groups", [group])
        named = matches(action, rule["defects"]) and not matches(action, rule.get("keep", ()))
        conditions = rule["conditions"]
        if of_group and named and (level.dimension in conditions or matches(str(level), conditions)):
            return str(rule["why"])
    return ""


@cache
def pairs() -> tuple[Pair, ...]:
    """All pairs that the groups name, those that are left out among them, in the order of `pairs.toml`.

    Raises:
        KeyError: a group names a defect or a condition that is not there.
    """
    known = catalogue()
    found: dict[str, Pair] = {}
    for group, table in rules()["groups"].items():
        for action in table["defects"]:
            for level in chosen(table["conditions"]):
                pair = Pair(known[action], level, group, excluded(action, level, group))
                found.setdefault(pair.name, pair)
    return tuple(found.values())


@cache
def conditional() -> dict[str, Pair]:
    """By name, the pairs of the catalogue."""
    return {pair.name: pair for pair in pairs() if not pair.cannot}


def without() -> dict[str, str]:
    """Plain defects that have no conditional form, and why."""
    found: dict[str, str] = {}
    for name, kind in catalogue().items():
        for rule in rules()["without"]:
            area = kind.place().split("/")[1]
            if not kind.oddity and (area in rule.get("areas", ()) or matches(name, rule.get("defects", ()))):
                found.setdefault(name, str(rule["why"]))
    return found


def invisible(name: str) -> str:
    """Why nobody outside can tell this conditional defect from a worker that is right; empty for one that shows."""
    action, _, condition = name.partition("@")
    for rule in rules().get("invisible", ()):
        if matches(action, rule["defects"]) and matches(condition, rule["conditions"]):
            return str(rule["why"])
    return ""


def find_conditional(name: str) -> type[Conditional] | None:
    """The conditional defect of this name, whether or not it is in the catalogue; None for another kind of name."""
    action, at, condition = name.partition("@")
    kind = find_plain(action) if at else None
    return None if kind is None else under(kind, find(condition))


def sample(size: int, seed: int) -> list[Pair]:
    """So many of the catalogue, drawn by this seed; all of them when there are no more.

    By a digest of seed and name, so that a catalogue that grows keeps most of what was drawn before.
    """
    order = sorted(conditional(), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return [conditional()[name] for name in sorted(order[:size])]

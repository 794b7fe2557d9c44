"""What the page shows of a document's row: shades, the grid of checkpoints, tracks along the positions, origins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from m0_parity.names import rank
from m0_parity.report.document import EQUAL

if TYPE_CHECKING:
    from m0_parity.names import Place

FLOOR: Final = -16.0
"""log10 NMSE drawn as the coldest shade; float32 rounding lies at -13 or above."""
STEPS: Final = 6
"""Shades on each side of the bound."""
EXPLAINED: Final = 6.0
"""A flip is explained where the margin is at most this many times the difference."""
_WORDS: Final = {"inf": math.inf, "nan": math.nan}
_MINUS: Final = "\N{MINUS SIGN}"


def number(value: float | str) -> float:
    """A number of the document, whose infinities and not-a-numbers are words."""
    return _WORDS[value] if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Scale:
    """Shades of NMSE: cold up to the bound, warm above it."""

    bound: float

    @property
    def edge(self) -> float:
        """The log10 of the bound."""
        return math.log10(self.bound)

    def shade(self, nmse: float) -> str:
        """The name of a value's shade: eq (bit for bit equal), b0 to b5 within the bound, a0 to a5 above it."""
        if nmse == 0:
            return "eq"
        if not math.isfinite(nmse):
            return f"a{STEPS - 1}"
        within = nmse <= self.bound
        low, high = (FLOOR, self.edge) if within else (self.edge, 0.0)
        step = int(STEPS * (math.log10(nmse) - low) / (high - low)) if high > low else STEPS - 1
        return f"{'b' if within else 'a'}{min(max(step, 0), STEPS - 1)}"

    def exceeds(self, nmse: float) -> bool:
        """Whether the value is above the bound (what is not a number is)."""
        return not nmse <= self.bound

    def legend(self) -> list[tuple[str, float]]:
        """Each shade, and its share of the scale's width in percent."""
        return [
            (f"{side}{i}", 100 * (high - low) / STEPS / -FLOOR)
            for side, low, high in (("b", FLOOR, self.edge), ("a", self.edge, 0.0))
            for i in range(STEPS)
        ]


def level(nmse: float) -> str:
    """The log10 as a cell shows it: "=" for equal bit for bit, one decimal otherwise."""
    if nmse == 0:
        return "="
    return f"{math.log10(nmse):.1f}".replace("-", _MINUS) if math.isfinite(nmse) else "∞"


def measure(value: float | str) -> str:
    """A measured value: whole numbers plainly, others with two figures."""
    if isinstance(value, str):
        return "infinite" if value == "inf" else "not a number"
    if not math.isfinite(value):
        return "infinite" if value > 0 else "not a number"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.1e}"


def where(place: Place | list[Any]) -> str:
    """A place as people say it."""
    return str(place[1]) if place[0] < 0 else f"{place[1]} of layer {place[0]}"


@dataclass(frozen=True, slots=True)
class Grid:
    """The worst cell of each place over all requests."""

    names: list[str]
    """Checkpoints inside layers, in the order of computation."""
    layers: list[int]
    before: list[Place]
    after: list[Place]
    cells: dict[Place, dict[str, Any]]
    """``nmse``, ``max_abs``, ``cosine`` and ``request`` by place."""


def grid(row: dict[str, Any]) -> Grid:
    """Layers x checkpoints of a row, and what lies before and behind the layers."""
    cells: dict[Place, dict[str, Any]] = {}
    for entry in row["map"]:
        for cell in entry["cells"]:
            place = (cell["layer"], cell["checkpoint"])
            nmse = number(cell["nmse"])
            if place not in cells or not nmse <= cells[place]["nmse"]:
                cells[place] = {
                    "nmse": nmse,
                    "max_abs": number(cell["max_abs"]),
                    "cosine": cell["cosine"],
                    "request": entry["request"],
                }
    outside = sorted((place for place in cells if place[0] < 0), key=rank)
    return Grid(
        names=sorted({name for layer, name in cells if layer >= 0}, key=lambda name: rank((0, name))),
        layers=sorted({layer for layer, _ in cells if layer >= 0}),
        before=[p for p in outside if p[1] in {"embd", "inpL"}],
        after=[p for p in outside if p[1] not in {"embd", "inpL"}],
        cells=cells,
    )


@dataclass(frozen=True, slots=True)
class Track:
    """One checkpoint of one layer along the positions of a request, told in words."""

    place: Place
    first_over: int | None
    worst: int
    level: float
    """log10 NMSE at the worst position; minus infinity where all is equal bit for bit."""


def tracks(entry: dict[str, Any], scale: Scale) -> list[Track]:
    """The picture of a request's positions as lines of a table."""
    found = []
    for cell in entry["cells"]:
        levels: list[int] = cell["levels"]
        at = max(range(len(levels)), key=levels.__getitem__)
        over = next((i for i, value in enumerate(levels) if value != EQUAL and value / 10 > scale.edge), None)
        found.append(
            Track(
                (cell["layer"], cell["checkpoint"]),
                None if over is None else entry["first"] + over,
                entry["first"] + at,
                -math.inf if levels[at] == EQUAL else levels[at] / 10,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Origin:
    """One fact about where the two sides come from."""

    what: str
    reference: str
    candidate: str

    @property
    def differs(self) -> bool:
        """Whether the two sides say different things about it."""
        return bool(self.reference and self.candidate and self.reference != self.candidate)


def origins(row: dict[str, Any]) -> list[Origin]:
    """The provenance of both sides, one fact a line; settings are taken apart."""
    a, b = _flat(row["origin"]["reference"]), _flat(row["origin"]["candidate"])
    return [Origin(key, a.get(key, ""), b.get(key, "")) for key in dict.fromkeys([*a, *b])]


def _flat(provenance: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in provenance.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}: ")
        elif value is not None:
            flat[f"{prefix}{key}".replace("_", " ")] = str(value)
    return flat

"""The HTML page: verdict, ladder, and for each model its heat maps, first divergence, next tokens and origins."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from m0_parity.ladder import TITLES
from m0_parity.names import MEANING
from m0_parity.report import charts, view
from m0_parity.report.heatmap import data_uri

_FOLDER = Path(__file__).parent
_MOST_OPEN = 3
"""Details of so many rows out of bounds are shown at once; the others wait for a click."""


def page(results: dict[str, Any]) -> str:
    """One self-contained HTML document: no script, no request to anywhere, light and dark."""
    rows = results["rows"]
    failed = [row for row in rows if row["ran"] and not row["passed"]]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            css=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file
            groups=[(rung, TITLES.get(rung, ""), _of(rung, rows)) for rung in dict.fromkeys(r["rung"] for r in rows)],
            ran=[row for row in rows if row["ran"]],
            failed=failed,
            lead=next((row for row in failed if "divergence" in row), failed[0] if failed else None),
            opened=[id(row) for row in (rows if len(rows) == 1 else failed[:_MOST_OPEN])],
        )
    )


def _of(rung: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["rung"] == rung]


def _marker(row: dict[str, Any], entry: dict[str, Any]) -> dict[str, float] | None:
    """Where the first divergence (or step) lies on a map, in percent of its size; None on other requests' maps."""
    found = row.get("divergence", row.get("step"))
    if found is None or found["request"] != entry["request"]:
        return None
    cells = entry["cells"]
    at = [i for i, c in enumerate(cells) if (c["layer"], c["checkpoint"]) == (found["layer"], found["checkpoint"])]
    if not at:
        return None
    width = len(cells[0]["levels"])
    return {
        "top": 100 * (at[0] + 0.5) / len(cells),
        "left": 100 * (found["position"] - entry["first"] + 0.5) / width,
    }


def _first(row: dict[str, Any]) -> tuple[int, str] | None:
    found = row.get("divergence", row.get("step"))
    return None if found is None else (found["layer"], found["checkpoint"])


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals.update(
        scale_of=lambda row: view.Scale(row["shade_bound"]), grid_of=view.grid, tracks_of=view.tracks,
        origins_of=view.origins, first_of=_first, marker=_marker, data_uri=data_uri, margins=charts.margins,
        explained=view.EXPLAINED, id=id, meaning=MEANING,
    )  # fmt: skip
    environment.filters.update(level=view.level, measure=view.measure, where=view.where)
    return environment

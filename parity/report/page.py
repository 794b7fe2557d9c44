"""The HTML page: verdict, ladder, and for each model its heat maps, first divergence, choices and margins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from parity.ladder import TITLES
from parity.report.heatmap import CEILING, FLOOR, colour, data_uri

_FOLDER = Path(__file__).parent


def page(results: dict[str, Any]) -> str:
    """One self-contained HTML document: no script, no request to anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"level": _level, "measure": _measure}
    rungs = dict.fromkeys(row["rung"] for row in results["rows"])
    groups = [(rung, TITLES.get(rung, ""), [r for r in results["rows"] if r["rung"] == rung]) for rung in rungs]
    legend = [("rgb({}, {}, {})".format(*colour(level)), level // 10) for level in range(FLOOR, CEILING + 1, 20)]
    return environment.get_template("page.html.j2").render(
        results=results, groups=groups, legend=legend, data_uri=data_uri, marker=_marker, scatter=_scatter
    )


def _measure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.1e}"


def _level(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1e}"


def _marker(row: dict[str, Any], entry: dict[str, Any]) -> dict[str, float] | None:
    """Where the first divergence lies on a map, in percent of its size; None on maps of other requests."""
    found = row.get("divergence")
    if found is None or found["request"] != entry["request"]:
        return None
    cells = entry["cells"]
    at = [i for i, c in enumerate(cells) if (c["layer"], c["checkpoint"]) == (found["layer"], found["checkpoint"])]
    if not at:
        return None
    width = len(cells[0]["levels"])
    return {"top": 100 * at[0] / len(cells), "left": 100 * (found["position"] - entry["first"]) / width}


def _scatter(choices: dict[str, Any]) -> dict[str, Any]:
    """Points of margin against difference, logarithmic, in a 260 by 120 box; flips are marked."""
    import math  # noqa: PLC0415

    flipped = {flip["row"] for flip in choices["flips"]}

    def across(value: float) -> float:
        return 260 * (math.log10(max(value, 1e-5)) + 5) / 6.5

    def down(value: float) -> float:
        return 120 - 120 * (math.log10(max(value, 1e-8)) + 8) / 9

    points = [
        {"x": round(across(margin), 1), "y": round(down(rms), 1), "flip": row in flipped}
        for row, (margin, rms) in enumerate(zip(choices["margins"], choices["rms"], strict=True))
    ]
    points.sort(key=lambda point: point["flip"])
    ends = [(round(across(6 * rms), 1), round(down(rms), 1)) for rms in (1e-8, 10.0)]
    return {"points": points, "line": ends}

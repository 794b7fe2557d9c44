"""Heat maps of log NMSE: positions as PNG bytes made without any library, layers as a picture for documents.

Source of the file layout: the PNG specification (W3C, third edition), colour type 3.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_parity.report import view
from m0_parity.report.document import EQUAL

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from m0_parity.names import Place

    Colour = tuple[int, int, int]

FLOOR: Final = round(10 * view.FLOOR)
CEILING: Final = 0
_COLD: Final[tuple[Colour, ...]] = ((231, 242, 245), (104, 176, 198))
_WARM: Final[tuple[Colour, ...]] = ((251, 223, 166), (242, 161, 79), (201, 67, 43), (143, 20, 32))
_EQUAL_COLOUR: Final = (255, 255, 255)
_INK: Final = "#191b1f"


def colour(level: int, bound: float) -> Colour:
    """RGB of a level (10 log10 NMSE): white for equal bit for bit, cold up to the bound, warm above it."""
    if level == EQUAL:
        return _EQUAL_COLOUR
    edge = 10 * math.log10(bound)
    low, high, stops = (FLOOR, edge, _COLD) if level <= edge else (edge, CEILING, _WARM)
    share = min(1.0, max(0.0, (level - low) / (high - low))) if high > low else 1.0
    return _between(stops, share)


def _between(stops: tuple[Colour, ...], share: float) -> Colour:
    at = share * (len(stops) - 1)
    for number, (a, b) in enumerate(pairwise(stops)):
        if at <= number + 1:
            red, green, blue = (round(x + (at - number) * (y - x)) for x, y in zip(a, b, strict=True))
            return red, green, blue
    return stops[-1]


def png(levels: npt.NDArray[np.int64], bound: float) -> bytes:
    """A palette PNG of levels (rows, columns)."""
    shades = [EQUAL, *range(FLOOR, CEILING + 21)]
    index = np.where(levels == EQUAL, 0, 1 + np.clip(levels, FLOOR, CEILING + 20) - FLOOR).astype(np.uint8)
    rows = np.concatenate([np.zeros((len(index), 1), dtype=np.uint8), index], axis=1)  # filter type 0 before each row
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 8, 3, 0, 0, 0)
    palette = b"".join(bytes(colour(shade, bound)) for shade in shades)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def data_uri(entry: dict[str, Any], bound: float) -> str:
    """The map of one request's positions as a data URI."""
    levels = np.array([cell["levels"] for cell in entry["cells"]], dtype=np.int64)
    return "data:image/png;base64," + base64.b64encode(png(levels, bound)).decode()


def figure(results: dict[str, Any], path: Path, label: str | None = None) -> None:
    """Layers x checkpoints of row ``label`` (default: the first that failed) as a picture, first divergence outlined.

    Raises:
        ValueError: no row with a map, or none of that label.
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # only documents need it
    from matplotlib.colors import LinearSegmentedColormap, Normalize  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - slow to import

    rows = [row for row in results["rows"] if row.get("map") and label in {None, row["label"]}]
    if not rows:
        raise ValueError(f"no heat map{'' if label is None else f' of {label!r}'} in this report")
    row = next((r for r in rows if not r["passed"]), rows[0])
    grid, scale, found = view.grid(row), view.Scale(row["shade_bound"]), row.get("divergence")
    slots = _slots(grid)
    columns = max([len(grid.names), *(3 * column + 3 for p, (_, column) in slots.items() if p[0] < 0)])
    values = np.full((max(line for line, _ in slots.values()) + 1, columns), np.nan)
    chart = Figure(figsize=(1.7 + 0.6 * columns, 1.5 + 0.36 * len(values)), dpi=110, layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    for place, (line, column) in slots.items():
        cell, outside = grid.cells[place], place[0] < 0
        at, width = (3 * column, 3) if outside else (column, 1)  # what lies outside the layers bears its own name
        values[line, at : at + width] = _log(cell["nmse"])
        text = f"{place[1]}  {view.level(cell['nmse'])}" if outside else view.level(cell["nmse"])
        over = scale.exceeds(cell["nmse"])
        axes.text(
            at + (width - 1) / 2, line, text, ha="center", va="center", fontsize=8,
            color="white" if over and _log(cell["nmse"]) > 0.4 * scale.edge else _INK,
            weight="bold" if over else "normal",
        )  # fmt: skip
        if found is not None and place == (found["layer"], found["checkpoint"]):
            axes.add_patch(
                Rectangle((at - 0.5, line - 0.5), width, 1, fill=False, lw=3, edgecolor=_INK, zorder=3, clip_on=False)
            )
    split = (scale.edge - view.FLOOR) / -view.FLOOR
    stops = [
        (low + (high - low) * i / (len(shades) - 1), tuple(part / 255 for part in shade))
        for low, high, shades in ((0.0, split, _COLD), (split, 1.0, _WARM))
        for i, shade in enumerate(shades)
    ]
    shades = LinearSegmentedColormap.from_list("nmse", stops, N=512).with_extremes(bad="white")
    image = axes.imshow(values, cmap=shades, norm=Normalize(view.FLOOR, 0), aspect="auto")
    axes.set_xticks(range(len(grid.names)), grid.names, rotation=40, ha="left", fontsize=8)
    axes.xaxis.tick_top()
    top = 1 if grid.before else 0
    axes.set_yticks([top + i for i in range(len(grid.layers))], [f"layer {n}" for n in grid.layers], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = chart.colorbar(image, ax=axes, label="log10 NMSE", fraction=0.04, pad=0.02)
    bar.ax.axhline(scale.edge, color=_INK, linewidth=2)
    bar.ax.text(-0.3, scale.edge, "bound", ha="right", va="center", fontsize=8, transform=bar.ax.get_yaxis_transform())
    chart.suptitle(f"{row['label']}, against llama.cpp" + ("; first divergence outlined" if found else ""), fontsize=10)
    chart.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})


def _slots(grid: view.Grid) -> dict[Place, tuple[int, int]]:
    """Row and column of each place: what is before the layers on top, what is behind them at the bottom."""
    slots: dict[Place, tuple[int, int]] = {place: (0, column) for column, place in enumerate(grid.before)}
    top = 1 if grid.before else 0
    for layer, name in grid.cells:
        if layer >= 0:
            slots[layer, name] = (top + grid.layers.index(layer), grid.names.index(name))
    return slots | {place: (top + len(grid.layers), column) for column, place in enumerate(grid.after)}


def _log(nmse: float) -> float:
    if nmse == 0:
        return view.FLOOR
    return math.log10(nmse) if math.isfinite(nmse) else 0.0

"""Heat maps of log NMSE: checkpoints down, positions across, one pixel each; as PNG bytes without any library.

Source of the file layout: the PNG specification (W3C, third edition), colour type 3.
"""

from __future__ import annotations

import base64
import struct
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from parity.report.document import EQUAL

if TYPE_CHECKING:
    import numpy.typing as npt

FLOOR: Final = -160
CEILING: Final = 0
_STOPS: Final = (  # share of the range, RGB: dark blue is rounding, yellow is a difference, red is nonsense
    (0.0, (24, 30, 74)),
    (0.35, (38, 92, 140)),
    (0.55, (52, 160, 128)),
    (0.75, (222, 205, 80)),
    (0.9, (226, 106, 60)),
    (1.0, (170, 20, 40)),
)
_EQUAL_COLOUR: Final = (232, 234, 240)


def colour(level: int) -> tuple[int, int, int]:
    """RGB of a level (10 log10 NMSE), or of bitwise equality."""
    if level == EQUAL:
        return _EQUAL_COLOUR
    share = min(1.0, max(0.0, (level - FLOOR) / (CEILING - FLOOR)))
    for (low, a), (high, b) in pairwise(_STOPS):
        if share <= high:
            t = (share - low) / (high - low)
            red, green, blue = (round(x + t * (y - x)) for x, y in zip(a, b, strict=True))
            return red, green, blue
    return _STOPS[-1][1]


def png(levels: npt.NDArray[np.int64]) -> bytes:
    """A palette PNG of levels (rows, columns)."""
    shades = [EQUAL, *range(FLOOR, CEILING + 21, 2)]
    index = np.where(levels == EQUAL, 0, 1 + (np.clip(levels, FLOOR, CEILING + 20) - FLOOR) // 2).astype(np.uint8)
    rows = np.concatenate([np.zeros((len(index), 1), dtype=np.uint8), index], axis=1)  # filter type 0 before each row
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 8, 3, 0, 0, 0)
    palette = b"".join(bytes(colour(shade)) for shade in shades)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def data_uri(entry: dict[str, Any]) -> str:
    """The map of one request as a data URI."""
    levels = np.array([cell["levels"] for cell in entry["cells"]], dtype=np.int64)
    return "data:image/png;base64," + base64.b64encode(png(levels)).decode()


def figure(results: dict[str, Any], path: Any, label: str | None = None) -> None:
    """A picture for documents, drawn by matplotlib: the heat map of row ``label`` (default: the first that failed).

    Raises:
        ValueError: no row with a map, or none of that label.
    """
    import matplotlib as mpl  # noqa: PLC0415  # only documents need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415

    rows = [row for row in results["rows"] if row.get("map") and label in {None, row["label"]}]
    if not rows:
        raise ValueError(f"no heat map{'' if label is None else f' of {label!r}'} in this report")
    row = next((r for r in rows if not r["passed"]), rows[0])
    entry = row["map"][0]
    levels = np.array([cell["levels"] for cell in entry["cells"]], dtype=float)
    levels[levels == EQUAL] = np.nan
    names = [c["checkpoint"] if c["layer"] < 0 else f"{c['checkpoint']}-{c['layer']}" for c in entry["cells"]]
    shades = LinearSegmentedColormap.from_list("nmse", [(at, tuple(v / 255 for v in rgb)) for at, rgb in _STOPS])
    shades.set_bad("#e8eaf0")
    chart, axes = plt.subplots(figsize=(10, 0.19 * len(names) + 1.3), dpi=130)
    image = axes.imshow(levels / 10, aspect="auto", cmap=shades, vmin=FLOOR / 10, vmax=0, interpolation="nearest")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("position of the input token")
    axes.set_title(f"{row['label']}: NMSE against llama.cpp, request {entry['request']!r}", fontsize=9, loc="left")
    found = row.get("divergence")
    if found is not None and found["request"] == entry["request"]:
        at = next(
            i
            for i, c in enumerate(entry["cells"])
            if (c["layer"], c["checkpoint"]) == (found["layer"], found["checkpoint"])
        )
        axes.axhline(at - 0.5, color="black", lw=0.8)
        axes.annotate(
            "first divergence", (found["position"], at), xytext=(12, -14), textcoords="offset points", fontsize=8,
            color="white", arrowprops={"arrowstyle": "->", "color": "white"},
        )  # fmt: skip
    chart.colorbar(image, ax=axes, label="log10 NMSE (grey: equal bit for bit)", pad=0.01)
    chart.tight_layout()
    chart.savefig(path)
    plt.close(chart)

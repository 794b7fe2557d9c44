"""The GPU figures as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What is aimed at: "x" is the ratio to llama.cpp, else the worker's own figure.
_DECODE, _PROMPT = ("x", ">=", 2.0), ("x", ">=", 1.0)
GOALS: Final[dict[str, tuple[str, str, float]]] = {
    "decode@0": _DECODE,
    "decode@512": _DECODE,
    "decode@4000": _DECODE,
    "prefill 512": _PROMPT,
    "prefill 2048": _PROMPT,
    "event stream, share of the engine": ("", ">=", 0.9),
    "event stream, share of the engine, temperature 1": ("", ">=", 0.9),
    "first start s": ("", "<", 3.0),
    "start s": ("", "<", 3.0),
    "host memory, growth while loading MB": ("", "<", 300.0),
    "host memory, growth while loading, first start MB": ("", "<", 300.0),
    "/health while decoding p99 ms": ("", "<", 10.0),
    "cancel p95 ms": ("", "<", 100.0),
    "host CPU a request of 64 tokens ms": ("", "<", 10.0),
    "the same behind a prompt of 512 ms": ("", "<", 10.0),
}
_OF_THE_SMALLEST: Final = {"first start s", "start s"}
LOWER_IS_BETTER: Final = (" s", " ms", " MB")


def machine() -> dict[str, str]:
    """Device, driver, versions, commit, day."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {
        "device": _output(query),
        "python": sys.version.partition(" ")[0],
        "cupy": _output([sys.executable, "-c", "import cupy; print(cupy.__version__)"]),
        "commit": os.environ.get("COMMIT") or _output(["git", "rev-parse", "--short", "HEAD"]) or "unknown",
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def rows(result: dict[str, Any], bandwidth: float) -> Iterator[tuple[str, float, float | None]]:
    """All rows of one shape: what, the worker's figure, llama.cpp's or None."""
    ours, theirs = result["worker"], result["llama.cpp"]
    for what, value in ours.items():
        yield what, value, theirs.get(what)
        if what.startswith("decode@"):
            read = result["bytes_per_token"] * value
            other = theirs.get(what)
            yield f"{what} GB/s", read / 1e9, None if other is None else result["bytes_per_token"] * other / 1e9
            yield f"{what} share of copy bandwidth", read / bandwidth, None
        if what.startswith("event stream, temperature"):
            temperature = what.rpartition(", ")[2]
            name = "event stream, share of the engine" + ("" if temperature == "temperature 0" else f", {temperature}")
            yield name, value / ours[f"engine stream, {temperature}"], None
    yield "VRAM, weights MB", result["weights_bytes"] / 1e6, None
    yield "VRAM, intermediates MB", result["intermediates_bytes"] / 1e6, None
    yield "VRAM, by the driver MB", result["device_bytes"] / 1e6, None
    yield "file MB", result["file_bytes"] / 1e6, None


def met(shape: str, what: str, value: float, ratio: float | None) -> str:
    """The goal of a row, and whether it is met; "" where there is none."""
    if what not in GOALS or (what in _OF_THE_SMALLEST and shape != "qwen2.5-0.5b"):
        return ""
    of, sign, bound = GOALS[what]
    measured = ratio if of else value
    goal = f"{sign} {bound:g}{' times' if of else ''}"
    if measured is None:
        return f"{goal}: not compared"
    return f"{goal}: {'met' if (measured >= bound if sign == '>=' else measured < bound) else 'MISSED'}"


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = [f"- {name}: {value}" for name, value in report["machine"].items()]
    lines.append(f"- copy bandwidth, same run: {report['copy_bytes_per_s'] / 1e12:.2f} TB/s (read plus written)")
    lines += [
        f"- **{tool.replace('_', '-')} was not run**: its column is empty, nothing is claimed beside it"
        for tool in ("llama_bench", "llama_server")
        if not report[tool]
    ]
    lines += [
        f"- **{result['shape']}, {part}: failed**, its rows are missing: {why}"
        for result in report["results"]
        for part, why in result["failed"].items()
    ]
    lines += ["", "Rates are tokens a second; 'times' says how many times better the worker is.", ""]
    lines += ["| shape | what | worker | llama.cpp | times | goal |", "|---|---|---|---|---|---|"]
    for result in report["results"]:
        for what, value, other in rows(result, report["copy_bytes_per_s"]):
            ratio = None
            if other:
                ratio = other / value if what.endswith(LOWER_IS_BETTER) else value / other
            cells = (_figure(value), _figure(other) if other else "", f"{ratio:.2f}" if ratio else "")
            lines.append(
                f"| {result['shape']} | {what} | {' | '.join(cells)} | {met(result['shape'], what, value, ratio)} |"
            )
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def plot(report: dict[str, Any], path: Path) -> None:
    """Ratios to llama.cpp as bars, a group a shape."""
    import matplotlib as mpl  # noqa: PLC0415 - only the picture needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    names = [name for name in GOALS if GOALS[name][0] == "x"]
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [r["worker"][name] / r["llama.cpp"].get(name, float("inf")) for r in report["results"]]
        at = [group + (number - (len(names) - 1) / 2) * width for group in range(len(heights))]
        bars = axes.bar(at, heights, 0.92 * width, label=name)
        axes.bar_label(bars, [f"{height:.2f}" for height in heights], fontsize=7)
    for level in (1.0, 2.0):
        axes.axhline(level, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(report["results"])), [r["shape"] for r in report["results"]])
    axes.set_ylabel("times llama.cpp")
    axes.set_title(f"{report['machine']['device']}, one sequence, same files, same run", fontsize=9)
    axes.legend(ncols=len(names), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write(report: dict[str, Any], folder: Path) -> None:
    """gpu.json, gpu.md and, beside llama.cpp, gpu.png; the table is printed too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = table(report)
    if report["llama_bench"]:
        plot(report, folder / "gpu.png")
        text += "\n\n![decode and prompts, times llama.cpp](gpu.png)"
    (folder / "gpu.md").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")

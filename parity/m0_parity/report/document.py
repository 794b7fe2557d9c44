"""A run's results as a JSON document: everything the page and the pictures are drawn from."""

from __future__ import annotations

import json
import math
import platform
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_parity.compare import IncomparableError
from m0_parity.divergence import free_bound
from m0_parity.names import LOGITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m0_parity.compare import Comparison
    from m0_parity.divergence import Divergence
    from m0_parity.metrics import LogitGap
    from m0_parity.rungs.base import Row

SCHEMA: Final = 2
EQUAL: Final = -999
"""Level of a position that is equal bit for bit; other levels are 10 log10(NMSE), rounded."""
_DETAILED: Final = {"T2", "run", "compare", "selftest", "T4"}


def document(command: str, rows: Sequence[Row], reference: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The document of a run of ``command``."""
    return {
        "schema": SCHEMA,
        "command": command,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, NumPy {np.__version__}, Python {platform.python_version()}",
        "reference": reference,
        "passed": all(row.passed for row in rows if row.ran),
        "missing": [what for row in rows for what in row.missing],
        "rows": [_row(row) for row in rows],
    }


def _row(row: Row) -> dict[str, Any]:
    out: dict[str, Any] = {
        "rung": row.rung,
        "label": row.label,
        "measured": _finite(row.measured),
        "bound": row.bound,
        "passed": row.passed,
        "ran": row.ran,
        "note": row.note,
    }
    if row.divergence is not None:
        d = row.divergence
        out["divergence"] = {
            "layer": d.place[0],
            "checkpoint": d.place[1],
            "request": d.request,
            "position": d.position,
            "nmse": _finite(d.nmse),
            "local": _finite(d.local),
            "layer_replayed": _finite(d.layer_replayed),
            "confirmed": d.confirmed,
            "diagnosis": d.diagnosis,
            "also": [list(place) for place in d.also],
        }
    if row.comparison is not None:
        if row.rung in _DETAILED:
            out["map"] = _map(row.comparison)
            # a row that counts instead of measuring still shades its map by what its architecture allows
            out["shade_bound"] = row.bound or free_bound(str(row.comparison.reference.get("architecture")))
            if row.divergence is None and (step := row.comparison.first_step(lambda _: out["shade_bound"])):
                out["step"] = {
                    "layer": step.place[0],
                    "checkpoint": step.place[1],
                    "request": step.request,
                    "position": step.first_position(out["shade_bound"]),
                }
            out["shift"] = row.comparison.shift
            out["only"] = {
                "reference": [list(place) for place in row.comparison.only_reference],
                "candidate": [list(place) for place in row.comparison.only_candidate],
            }
            out["origin"] = {"reference": row.comparison.reference, "candidate": row.comparison.candidate}
            out["requests"] = [
                {"id": name, "tokens": ids, "prompt": prompt} for name, (ids, prompt) in row.comparison.tokens.items()
            ]
        out["choices"] = _choices(row.comparison, row.divergence)
    return out


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf"


def _map(comparison: Comparison) -> list[dict[str, Any]]:
    """For each request its cells, each with a level per position."""
    maps: dict[str, dict[str, Any]] = {}
    for cell in comparison.cells:
        entry = maps.setdefault(cell.request, {"request": cell.request, "first": int(cell.positions[0]), "cells": []})
        with np.errstate(divide="ignore"):
            level = np.rint(10 * np.log10(cell.by_position))
        level = np.where(cell.by_position == 0, EQUAL, np.clip(level, -200, 20)).astype(int)
        entry["cells"].append(
            {
                "layer": cell.place[0],
                "checkpoint": cell.place[1],
                "nmse": _finite(cell.nmse),
                "max_abs": _finite(cell.max_abs),
                "cosine": cell.cosine,
                "levels": level.tolist(),
            }
        )
    return list(maps.values())


def _choices(comparison: Comparison, divergence: Divergence | None) -> list[dict[str, Any]]:
    """For each request: flips, margins, and the top five at positions worth a look."""
    return [
        {
            "request": name,
            "positions": _positions(comparison, name),
            "mean_kl": float(gap.kl.mean()),
            "max_kl": float(gap.kl.max()),
            "top1": float(gap.top1.mean()),
            "top5": float(gap.top5.mean()),
            "worst_rank": int(gap.rank.max()),
            "flips": [
                {"row": int(row), "margin": float(gap.margin[row]), "rms": float(gap.rms[row])}
                for row in np.flatnonzero(~gap.top1)
            ],
            "margins": [float(f"{m:.3g}") for m in gap.margin],
            "rms": [float(f"{m:.3g}") for m in gap.rms],
            "tops": [_top(comparison, name, gap, at, why) for at, why in _noteworthy(comparison, name, divergence)],
        }
        for name, gap in comparison.logits.items()
    ]


def _positions(comparison: Comparison, request: str) -> list[int]:
    """The absolute positions of the rows of a request's logits."""
    cell = next(c for c in comparison.cells if c.request == request and c.place[1] == LOGITS)
    positions: list[int] = cell.positions.tolist()
    return positions


def _noteworthy(comparison: Comparison, request: str, divergence: Divergence | None) -> list[tuple[int, str]]:
    """Rows of the logits worth a table, and why."""
    gap, positions, chosen = comparison.logits[request], _positions(comparison, request), dict[int, list[str]]()
    if divergence is not None and divergence.request == request and divergence.position in positions:
        chosen.setdefault(positions.index(divergence.position), []).append("first divergence")
    flips = np.flatnonzero(~gap.top1)
    if len(flips):
        chosen.setdefault(int(flips[0]), []).append("first flip")
    chosen.setdefault(int(np.argmax(gap.kl)), []).append("largest KL divergence")
    _, prompt = comparison.tokens.get(request, ([], 0))
    if prompt - 1 in positions:
        chosen.setdefault(positions.index(prompt - 1), []).append("last prompt token")
    chosen.setdefault(len(positions) - 1, []).append("last token")
    return [(row, ", ".join(reasons)) for row, reasons in sorted(chosen.items())]


def _top(comparison: Comparison, request: str, gap: LogitGap, row: int, why: str) -> dict[str, Any]:
    texts = comparison.vocabulary
    return {
        "position": _positions(comparison, request)[row],
        "why": why,
        "rank": int(gap.rank[row]),
        "rows": [
            [int(i), texts[i] if i < len(texts) else "", float(a), float(b)]
            for i, a, b in zip(gap.best[row], gap.best_logits[row], gap.candidate_logits[row], strict=True)
        ],
    }


def save(results: dict[str, Any], path: Path) -> Path:
    """Write the document and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, separators=(",", ":")), encoding="utf-8")
    return path


def load(path: Path) -> dict[str, Any]:
    """Read a document.

    Raises:
        IncomparableError: not one of ours, or of another schema.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IncomparableError(f"{path.name} is no parity report: {error}") from error
    if not isinstance(results, dict) or results.get("schema") != SCHEMA or "rows" not in results:
        raise IncomparableError(f"{path.name} is no parity report of schema {SCHEMA}")
    return results

"""What a line of a recording says of a vector: leading values and figures, words for not-a-number and the infinities.

A vector of logits of a vocabulary of 152k takes 0.5 ms, of which the CRC is a third.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA: Final = 1
LOGITS: Final = "result_output"
TOP_K: Final = 10

_SLICE = 8192  # columns taken to float64 at a time: they stay in the cache, and in one thread of BLAS
_BLOCK = 512  # columns of which the largest stands for all while the TOP_K are looked for


@dataclass(frozen=True, slots=True)
class Figures:
    """Of each row (n,): its extremes, and mean and L2 norm accumulated in float64."""

    lowest: NDArray[Any]
    highest: NDArray[Any]
    mean: NDArray[np.float64]
    norm: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[Any]) -> Figures:
        """Figures of (n, features)."""
        total, square = np.zeros(len(rows)), np.zeros(len(rows))
        with np.errstate(all="ignore"):  # what is recorded may hold infinities
            for at in range(0, rows.shape[1], _SLICE):
                wide = rows[:, at : at + _SLICE].astype(np.float64)
                total += wide.sum(axis=1)
                square += wide[0].dot(wide[0]) if len(wide) == 1 else np.einsum("rn,rn->r", wide, wide)
            return cls(rows.min(axis=1), rows.max(axis=1), total / rows.shape[1], np.sqrt(square))


def described(name: str, row: NDArray[Any], figures: Figures, r: int, shown: int) -> dict[str, Any]:
    """What a line says of the values of one row, (features,), the ``r``-th of those the figures are of."""
    said: dict[str, Any] = {
        "dtype": "i32" if row.dtype.kind == "i" else "f32",
        "shape": f"[{row.size}]",
        "values": [number(v) for v in row[:shown]],
        "n": row.size,
        "min": number(figures.lowest[r]),
        "max": number(figures.highest[r]),
        "mean": number(figures.mean[r]),
        "l2": number(figures.norm[r]),
        "crc32": f"{zlib.crc32(row.data):08x}",
    }
    if name == LOGITS:
        said["top"] = [[int(i), number(row[i])] for i in top(row, finite=math.isfinite(figures.norm[r]))]
    return said


def number(value: np.generic | float) -> float | int | str:
    """A JSON number that reads back as the same float32 or float64, or a word."""
    if isinstance(value, np.integer):
        return int(value)
    plain = float(value)
    if not math.isfinite(plain):
        return "nan" if math.isnan(plain) else "inf" if plain > 0 else "-inf"
    return float(f"{plain:.9g}") if isinstance(value, np.float32) else plain


def top(row: NDArray[Any], *, finite: bool) -> NDArray[np.intp]:
    """Ids of the TOP_K largest values, largest first, the lower id first among equals."""
    if not finite:
        row = np.nan_to_num(row, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    k = min(TOP_K, row.size)
    # The k-th largest of the blocks' largest values is no larger than the k-th largest value.
    whole = row.size // _BLOCK * _BLOCK if row.size >= k * _BLOCK else 0
    few = np.concatenate([row[:whole].reshape(-1, _BLOCK).max(axis=1), row[whole:]]) if whole else row
    floor = np.partition(few, few.size - k)[few.size - k]
    ids = np.flatnonzero(row >= floor)
    order: NDArray[np.intp] = ids[np.argsort(-row[ids], kind="stable")][:k]
    return order

"""What probes are made of: orthogonal rows, matrices of few different rows, one head's attention, promises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

Floats = npt.NDArray[np.float32]
Index = np.ndarray[tuple[int], np.dtype[np.intp]]
Form = Literal["llama", "qwen2", "phi3", "gpt-oss"]

HEAD: Final = 64
"""Dimensions of one attention head of a probe that is in no other model's shape, and characters a head can carry."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A written probe: where it lies and what it promises (JSON-serialisable)."""

    path: Path
    facts: dict[str, Any]

    def write_facts(self) -> Path:
        """Write the facts beside the model as JSON and return that path."""
        target = self.path.with_suffix(".json")
        target.write_text(json.dumps(self.facts, indent=1), encoding="utf-8")
        return target


@dataclass(frozen=True, slots=True)
class Rows:
    """A matrix (n, d) by its different rows: row i is ``table[index[i]]``."""

    table: Floats
    index: Index

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.table.shape[1])

    def dense(self) -> Floats:
        """The matrix itself."""
        return self.table[self.index]


@dataclass(frozen=True, slots=True)
class Attention:
    """What the first head of the layer that attends does; d is the width of the embeddings, h of the head.

    Attributes:
        query, key: (h, d), or None for zero: every token gets the same attention.
        value: (HEAD, d), or None for zero.
        output: (d, HEAD).
        value_bias: (HEAD,), or None for zero.
    """

    output: Floats
    query: Floats | None = None
    key: Floats | None = None
    value: Floats | None = None
    value_bias: Floats | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """How an engine turns queries and keys of a file.

    Attributes:
        head: dimensions of a head.
        rotated: how many of them are turned.
        base: of the angles, base^(-2j/rotated) radians per position.
        adjacent: pairs are (2j, 2j+1), as in llama files, else (j, j + rotated/2).
    """

    head: int
    rotated: int
    base: float
    adjacent: bool

    def angles(self) -> npt.NDArray[np.float64]:
        """(rotated / 2,) radians per position of each pair."""
        return np.asarray(self.base ** (-2 * np.arange(self.rotated // 2) / self.rotated), dtype=np.float64)

    def pairs(self) -> tuple[Index, Index]:
        """First and second dimension of each pair."""
        j = np.arange(self.rotated // 2)
        return (2 * j, 2 * j + 1) if self.adjacent else (j, j + self.rotated // 2)


def hadamard(order: int) -> Floats:
    """Sylvester's Hadamard matrix: ``order`` rows of ±1, any two of them orthogonal. ``order`` is a power of two."""
    rows = np.ones((1, 1), dtype=np.float32)
    while len(rows) < order:
        rows = np.block([[rows, rows], [rows, -rows]])
    if len(rows) != order:
        raise ValueError(f"{order} is no power of two")
    return rows

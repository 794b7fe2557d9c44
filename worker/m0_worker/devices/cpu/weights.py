"""Matrices on the CPU device: stored blocks, or float32 while a byte budget lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m0_worker.gguf import dequantize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from m0_worker.devices.interface import StoredTensor

Floats = "NDArray[np.float32]"

# Rows are expanded a cache-sized tile at a time, so that BLAS reads them back from the cache and not from memory.
TILE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One stored matrix: rows as blocks, (out, bytes of a row)."""

    tensor: StoredTensor
    rows: NDArray[np.uint8]

    def expand(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start to stop - 1 in float32."""
        return dequantize(self.rows[start:stop], self.tensor.type, (stop - start, self.tensor.shape[-1]))


class CpuMatrix:
    """One or more stored matrices with the same input, stacked along their rows: (out, in).

    Attributes:
        n_in: columns.
        n_out: rows of all parts together.
        nbytes: bytes it takes, in blocks or in float32.
    """

    def __init__(self, tensors: Sequence[StoredTensor], *, dense: bool) -> None:
        self.n_in = tensors[0].shape[-1]
        self._parts = [Part(t, t.data.reshape(t.shape[0], -1)) for t in tensors]
        self.n_out = sum(t.shape[0] for t in tensors)
        self._dense: NDArray[np.float32] | None = None
        self.nbytes = sum(t.data.nbytes for t in tensors)
        if dense:
            self._dense = np.concatenate([part.expand(0, part.rows.shape[0]) for part in self._parts])
            self.nbytes = self._dense.nbytes

    def rows(self, ids: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some rows of a matrix of one part: (n,) -> (n, in)."""
        if self._dense is not None:
            picked: NDArray[np.float32] = self._dense.take(ids, 0)
            return picked
        part = self._parts[0]
        return dequantize(part.rows[ids], part.tensor.type, (len(ids), self.n_in))

    def multiply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """X matrix^T: (T, in) -> (T, out)."""
        if self._dense is not None:
            return _product(x, self._dense)
        out = np.empty((len(x), self.n_out), np.float32)
        for start, tile in self._tiles():
            out[:, start : start + len(tile)] = _product(x, tile)
        return out

    def _tiles(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        height = max(1, TILE_BYTES // (4 * self.n_in))
        at = 0
        for part in self._parts:
            n = part.rows.shape[0]
            for start in range(0, n, height):
                yield at + start, part.expand(start, min(n, start + height))
            at += n


def _product(x: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(x) == 1:  # a plain matrix-vector product: BLAS is twice as fast as through a one-row matrix
        return matrix.dot(x[0])[None]  # type: ignore[no-any-return]  # as numpy types dot
    return x @ matrix.T


class CpuExperts:
    """Expert matrices (E, out, in), one or more stacked along ``out``; each expert is a matrix of its own."""

    def __init__(self, tensors: Sequence[StoredTensor], make: Callable[[Sequence[StoredTensor]], CpuMatrix]) -> None:
        self._experts = [make([_expert(t, e) for t in tensors]) for e in range(tensors[0].shape[0])]
        self.nbytes = sum(expert.nbytes for expert in self._experts)

    def __getitem__(self, e: int) -> CpuMatrix:
        return self._experts[e]


def _expert(tensor: StoredTensor, e: int) -> StoredTensor:
    data = tensor.data.reshape(tensor.shape[0], -1)[e]
    return type(tensor)(f"{tensor.name}[{e}]", tensor.shape[1:], tensor.type, data)

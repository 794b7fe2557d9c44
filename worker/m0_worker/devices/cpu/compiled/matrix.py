"""Matrices in their stored blocks, multiplied by compiled kernels: :class:`CpuMatrix` is what they are tested against.

A vector is multiplied by the blocks as they lie in the mapped file. A prompt's rows are multiplied by BLAS, with tiles
of the matrix that are expanded to float32 once for all of them. Both are cut into pieces when the model is loaded, and
the pieces are shared by the threads; how many threads there are changes no sum.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from m0_worker.devices.cpu.compiled.attention import attend, attention_kernels
from m0_worker.devices.cpu.compiled.blocks import UNPACKINGS
from m0_worker.devices.cpu.compiled.crew import Crew
from m0_worker.devices.cpu.compiled.rows import kernel
from m0_worker.devices.cpu.weights import CpuMatrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from m0_worker.devices.cpu.cache import KvCache
    from m0_worker.devices.interface import StoredTensor
    from m0_worker.gguf import GgmlType

    Floats = NDArray[np.float32]

_PIECE_BYTES = 64 << 10  # of stored weights: some microseconds
# Of a tile in float32: a megabyte stays in a core's second-level cache, but BLAS copies the prompt's rows for every
# product, which few rows of the matrix do not repay.
_TILE_FLOATS = 256 << 10
_TILE_ROWS = 64


class Kernels:
    """The kernels that a model needs, and the threads that run them.

    Attributes:
        crew: the threads.
        nbytes: what tiles take, all threads together.
    """

    def __init__(self, kinds: Iterable[GgmlType], n_threads: int) -> None:
        self._by_type = {kind: kernel(kind) for kind in sorted(set(kinds)) if kind in UNPACKINGS}
        self._by_address = {kernel.address: kernel.ctypes for kernel in self._by_type.values()}
        attention_kernels()  # compiled now, not while a job waits
        self.crew = Crew(n_threads)
        self._own = threading.local()

    @property
    def nbytes(self) -> int:
        """What tiles take, all threads together; wide matrices may need more."""
        return 4 * _TILE_FLOATS * self.crew.n_threads

    def take(self, tensors: Sequence[StoredTensor]) -> CompiledMatrix | None:
        """A matrix of these parts, or None where the kernels do not know them: a row is whole groups of 32 weights."""
        known = all(t.type in self._by_type and t.shape[-1] % 32 == 0 for t in tensors)
        return CompiledMatrix(tensors, self) if known else None

    def address(self, kind: GgmlType) -> int:
        """Where a storage type's kernel is."""
        return int(self._by_type[kind].address)

    def expand(self, piece: Sequence[int], n_in: int) -> Floats:
        """The rows of a piece in float32, (rows, n_in): the calling thread's own array, until it expands another."""
        call, blocks, rows, n_blocks, _ = piece
        room: Floats | None = getattr(self._own, "room", None)
        if room is None or room.size < rows * n_in:
            room = self._own.room = np.empty(max(_TILE_FLOATS, rows * n_in), np.float32)
        self._by_address[call](blocks, rows, n_blocks, 0, room.ctypes.data)
        return room[: rows * n_in].reshape(rows, n_in)

    def attend(
        self, q: Floats, cache: KvCache, layer: int, start: int, stop: int, *, scale: float, sinks: Floats | None
    ) -> Floats:
        """Attention of one token to positions start to stop - 1: q (1, n_head * head_dim), same shape back."""
        return attend(self.crew, q, cache, layer, start, stop, scale=scale, sinks=sinks)

    def close(self) -> None:
        """End the threads."""
        self.crew.close()


class CompiledMatrix(CpuMatrix):
    """As its base class, by compiled kernels.

    Attributes:
        tiles: runs of rows that are expanded together, as pieces.
    """

    def __init__(self, tensors: Sequence[StoredTensor], kernels: Kernels) -> None:
        super().__init__(tensors, dense=False)
        self._kernels = kernels
        self._pieces = np.array(self._cut(lambda row_bytes: _PIECE_BYTES // row_bytes), np.int64)
        self.tiles = self._cut(lambda _: max(_TILE_ROWS, _TILE_FLOATS // self.n_in))

    def _cut(self, height: Callable[[int], int]) -> list[tuple[int, ...]]:
        """Runs of rows as pieces for the crew: (kernel, first block, rows, blocks of a row, place in the result)."""
        pieces: list[tuple[int, ...]] = []
        at = 0
        for part in self._parts:
            n, row_bytes = part.rows.shape
            step = max(1, height(row_bytes))
            n_blocks = row_bytes // UNPACKINGS[part.tensor.type].nbytes
            call, address = self._kernels.address(part.tensor.type), part.rows.ctypes.data
            for start in range(0, n, step):
                rows = min(step, n - start)
                pieces.append((call, address + start * row_bytes, rows, n_blocks, 4 * (at + start)))
            at += n
        return pieces

    def multiply(self, x: Floats) -> Floats:
        """See the base class."""
        out = np.empty((len(x), self.n_out), np.float32)
        if len(x) == 1:
            self._kernels.crew.run(self._pieces, np.ascontiguousarray(x[0]), out[0])
            return out

        def tile(i: int) -> None:
            piece = self.tiles[i]
            start, rows = piece[4] // 4, piece[2]
            np.matmul(x, self._kernels.expand(piece, self.n_in).T, out=out[:, start : start + rows])

        self._kernels.crew.share(tile, len(self.tiles))
        return out

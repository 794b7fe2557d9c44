"""Stored matrices in VRAM: the file's blocks, repacked on the device so that a warp loads them with wide reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from m0_worker.devices.cuda.memory import Buffer, Pool
    from m0_worker.devices.interface import StoredTensor

CHUNK = 1 << 20  # bytes of one copy from the mapped file (M0-W-1222)
FLOATS = frozenset(kind for kind in GgmlType if kind.is_float)
# Types whose minima need the sums of the activations' blocks.
MINIMA = frozenset(kind for kind in GgmlType if kind.block_minima)


def unit(kind: GgmlType) -> int:
    """Weights along k that a warp multiplies at once."""
    return 64 if kind.is_float else max(128, kind.block_size)


def octet_bytes(kind: GgmlType, k: int) -> int:
    """Bytes of eight rows of k weights as they lie on the device."""
    if kind.is_float:
        return 8 * k * kind.block_bytes
    return 8 * kind.nbytes(-(-k // unit(kind)) * unit(kind))


def expert_bytes(name: str, kind: GgmlType, rows: int, k: int) -> int:
    """Bytes of a matrix on the device, or of one expert's. Float rows are not padded; quantized octets are.

    Raises:
        ValueError: tensor ``name`` has rows that wide reads cannot take.
    """
    nbytes = rows * k * kind.block_bytes if kind in FLOATS else -(-rows // 8) * octet_bytes(kind, k)
    if nbytes % 16 or (kind in FLOATS and (k * kind.block_bytes) % 16):
        raise ValueError(f"tensor {name}: rows of {k} weights of type {kind.name} are no multiple of 16 bytes")
    return nbytes


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor on the device: (rows, k), or n_experts of them.

    Attributes:
        buffer: its memory.
        kind: storage type.
        rows: output features.
        octets: groups of eight rows, the last padded with zeros if quantized.
        expert_bytes: from one expert to the next.
    """

    buffer: Buffer
    kind: GgmlType
    rows: int
    octets: int
    expert_bytes: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """Parts stacked along their rows; they share k. Implements the interface's Weight."""

    parts: tuple[Part, ...]
    k: int
    n_experts: int

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)


class WeightLoader:
    """Copies tensors from the mapped file to the device in bounded chunks and repacks them there."""

    def __init__(self, pool: Pool, stream: Any, chunk: int = CHUNK) -> None:
        self._pool = pool
        self._stream = stream
        self._chunk = chunk
        self._staging: Buffer | None = None
        self._repack = driver.Kernels("repack.cu")

    def matrix(self, tensors: Sequence[StoredTensor]) -> Matrix:
        """Stack tensors along their rows; all stay in their stored type.

        Raises:
            OutOfMemory: the device is too small; what this matrix had taken is given back.
        """
        parts: list[Part] = []
        try:
            for tensor in tensors:
                parts.append(self._part(tensor))  # noqa: PERF401 - what is there must be freed if the next fails
        except Exception:
            for part in parts:
                part.buffer.free()
            raise
        shape = tensors[0].shape
        return Matrix(tuple(parts), shape[-1], shape[0] if len(shape) == 3 else 1)

    def done(self) -> None:
        """Free the staging memory."""
        if self._staging is not None:
            self._stream.synchronize()
            self._staging.free()
            self._staging = None

    def _part(self, tensor: StoredTensor) -> Part:
        *lead, rows, k = tensor.shape
        experts = lead[0] if lead else 1
        kind = tensor.type
        octets = -(-rows // 8)
        size = expert_bytes(tensor.name, kind, rows, k)
        buffer = self._pool.allocate(experts * size, "weights")
        try:
            if kind in FLOATS:
                self._copy(buffer.address, tensor.data)
            else:
                for e in range(experts):
                    n = tensor.data.nbytes // experts
                    self._blocks(buffer.address + e * size, tensor.data[e * n : (e + 1) * n], kind, rows, k)
        except Exception:
            buffer.free()
            raise
        return Part(buffer, kind, rows, octets, size)

    def _copy(self, address: int, data: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        for at in range(0, data.nbytes, self._chunk):
            driver.upload(address + at, data[at : at + self._chunk], self._stream)

    def _blocks(
        self, address: int, data: np.ndarray[Any, np.dtype[np.uint8]], kind: GgmlType, rows: int, k: int
    ) -> None:
        row_bytes = kind.nbytes(k)
        step = max(1, self._chunk // (8 * row_bytes)) * 8  # rows of one chunk, whole octets
        if self._staging is None or self._staging.nbytes < step * row_bytes:
            self.done()
            self._staging = self._pool.allocate(max(self._chunk, step * row_bytes), "intermediates")
        units = -(-k // unit(kind))
        for first in range(0, rows, step):
            n = min(step, rows - first)
            self._copy(self._staging.address, data[first * row_bytes : (first + n) * row_bytes])
            self._repack.launch(
                "repack",
                (-(-(-(-n // 8) * units) // 4),),
                128,
                (
                    np.uint64(self._staging.address),
                    np.uint64(address + first // 8 * octet_bytes(kind, k)),
                    np.int32(kind),
                    np.int32(n),
                    np.int32(k),
                    np.uint64(row_bytes),
                ),
                self._stream,
            )

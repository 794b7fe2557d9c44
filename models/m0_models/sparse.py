"""GGUF files of any size, written tensor by tensor: what is zero stays a hole in the file and takes no disk space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from m0_models import container
from m0_models.quantize import Bytes, block_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_ALIGNMENT: Final = 32
_CHUNK: Final = 1 << 24
"""Bytes that are gathered at a time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of ``shape`` (numpy order) in type ``kind``: zero, or the rows ``table[index]`` and zeros behind them.

    ``table`` (k, bytes of a row) are encoded rows; ``index`` says which of them each row of the tensor is, and -1 is a
    row of zeros. Every type made here stores zero as zero bytes, so a tensor without a table is a hole.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    table: Bytes | None = None
    index: np.ndarray[tuple[int], np.dtype[np.intp]] | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored row."""
        elements, size = block_size(self.kind)
        return self.shape[-1] // elements * size

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return int(np.prod(self.shape[:-1], dtype=np.int64)) * self.row_bytes


def write(path: Path, architecture: str, metadata: Mapping[str, object], tensors: Sequence[Stored]) -> Path:
    """Write one GGUF v3 file and return its path; parents are created, an existing file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in container.completed(metadata).items():
        container.add(writer, key, value)
    for tensor in tensors:
        _announce(writer, tensor)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        at = _aligned(path.stat().st_size)
        for tensor in tensors:
            for start, part in _parts(tensor):
                file.seek(at + start)
                file.write(part.data)
            at = _aligned(at + tensor.nbytes)
        file.truncate(at)
    return path


def _aligned(at: int) -> int:
    return -(-at // _ALIGNMENT) * _ALIGNMENT


def _announce(writer: Any, tensor: Stored) -> None:
    plain = {"F32": np.float32, "F16": np.float16}.get(tensor.kind)
    if plain is not None:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(plain), tensor.nbytes)
    else:
        stored = (*tensor.shape[:-1], tensor.row_bytes)
        kind = GGMLQuantizationType[tensor.kind]
        writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), tensor.nbytes, kind)


def _parts(tensor: Stored) -> Iterable[tuple[int, Bytes]]:
    """(offset in the tensor, bytes) of everything that is not zero, a run of rows at a time."""
    if tensor.table is None or tensor.index is None:
        return
    filled = np.flatnonzero(tensor.index >= 0)
    step = max(1, _CHUNK // tensor.row_bytes)
    for run in np.split(filled, np.flatnonzero(np.diff(filled) != 1) + 1) if len(filled) else ():
        for begin in range(0, len(run), step):
            rows = run[begin : begin + step]
            yield int(rows[0]) * tensor.row_bytes, np.ascontiguousarray(tensor.table[tensor.index[rows]])

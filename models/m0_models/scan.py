"""A second reader of GGUF files, independent of the worker's: where each tensor lies, and the short metadata.

It maps nothing and keeps nothing: tensors are read when they are asked for, whole or by rows, so that a file of any
size can be taken apart piece by piece. Format: GGUF v3 (ggml's docs/gguf.md).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING: Final = 8
_ARRAY: Final = 9
_LONG: Final = 4096
"""Arrays with more elements are passed over: vocabularies and merges."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor's place: shape in numpy order, absolute offset and length in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Scan:
    """The header of a GGUF file, which is taken to be sound: checking it is the worker's business.

    Raises:
        OSError: it cannot be read.
        ValueError: no GGUF file, or a tensor of a type that the gguf package does not know.

    Attributes:
        metadata: scalars, strings and short arrays by key; long arrays are left out.
        lengths: elements of every array, long ones included.
        keys: all of them, in the order of the file.
        tensors: by name, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, object] = {}
        self.lengths: dict[str, int] = {}
        self.keys: list[str] = []
        self._arrays: dict[str, tuple[int, int, int]] = {}  # key -> element type, count, offset of the first element
        self.tensors: dict[str, Entry] = {}
        with path.open("rb") as file:
            self._read(file)

    @property
    def architecture(self) -> str:
        """The value of general.architecture."""
        return str(self.metadata["general.architecture"])

    def value(self, key: str) -> object:
        """The value of a key, however long it is; None when the file has no such key."""
        if key in self.metadata or key not in self._arrays:
            return self.metadata.get(key)
        element, count, offset = self._arrays[key]
        with self.path.open("rb") as file:
            file.seek(offset)
            if element == _STRING:
                return [_text(file) for _ in range(count)]
            size = struct.calcsize(_SCALARS[element])
            return list(struct.unpack(f"<{count}{_SCALARS[element][1]}", file.read(count * size)))

    def raw(self, name: str, rows: npt.NDArray[np.int64] | slice | None = None) -> npt.NDArray[np.uint8]:
        """The stored bytes of a tensor, (..., bytes of a row); only ``rows`` of its first axis where they are given."""
        entry = self.tensors[name]
        width = entry.nbytes // int(np.prod(entry.shape[:-1], dtype=np.int64))
        with self.path.open("rb") as file:
            if rows is None or len(entry.shape) == 1:
                return _bytes(file, entry.offset, entry.nbytes).reshape(*entry.shape[:-1], width)
            stride = entry.nbytes // entry.shape[0]
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(entry.shape[0])
                block = _bytes(file, entry.offset + start * stride, (stop - start) * stride)
                return block.reshape(stop - start, *entry.shape[1:-1], width)
            picked = [_bytes(file, entry.offset + int(row) * stride, stride) for row in rows]
            return np.stack(picked).reshape(len(picked), *entry.shape[1:-1], width)

    def _read(self, file: BinaryIO) -> None:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{self.path} is no GGUF file")
        version, n_tensors, n_keys = _unpack(file, "<IQQ")
        if version != 3:
            raise ValueError(f"{self.path} is a GGUF file of version {version}, not 3")
        for _ in range(n_keys):
            key = _text(file)
            self.keys.append(key)
            (kind,) = _unpack(file, "<I")
            value = self._value(file, key, kind)
            if value is not None:
                self.metadata[key] = value
        found = [self._entry(file) for _ in range(n_tensors)]
        alignment = int(str(self.metadata.get("general.alignment", 32)))
        start = -(-file.tell() // alignment) * alignment
        self.tensors = {e.name: Entry(e.name, e.type, e.shape, start + e.offset, e.nbytes) for e in found}

    def _value(self, file: BinaryIO, key: str, kind: int) -> object:
        if kind == _STRING:
            return _text(file)
        if kind != _ARRAY:
            return _unpack(file, _SCALARS[kind])[0]
        element, count = _unpack(file, "<IQ")
        self.lengths[key] = count
        self._arrays[key] = element, count, file.tell()
        if element == _STRING:
            for _ in range(count):
                (length,) = _unpack(file, "<Q")
                file.seek(length, 1)
            return None
        size = struct.calcsize(_SCALARS[element])
        if count > _LONG:
            file.seek(count * size, 1)
            return None
        return list(_unpack(file, f"<{count}{_SCALARS[element][1]}"))

    def _entry(self, file: BinaryIO) -> Entry:
        name = _text(file)
        (n_dims,) = _unpack(file, "<I")
        *dims, kind, offset = _unpack(file, f"<{n_dims}QIQ")
        elements, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        nbytes = int(np.prod(dims, dtype=np.int64)) // elements * size
        return Entry(name, GGMLQuantizationType(kind).name, tuple(reversed(dims)), offset, nbytes)


def _unpack(file: BinaryIO, form: str) -> Sequence[int]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    return file.read(length).decode("utf-8", "replace")


def _bytes(file: BinaryIO, offset: int, count: int) -> npt.NDArray[np.uint8]:
    file.seek(offset)
    return np.frombuffer(file.read(count), np.uint8)

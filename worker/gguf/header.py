"""Parses a GGUF v3 header: metadata and tensor records, every length checked before it is used.

Layout (little-endian): magic "GGUF", u32 version, u64 tensor count, u64 metadata count; then per key a string
(u64 length, bytes), u32 value type, value; then per tensor a name, u32 n_dimensions, u64 dimensions fastest first,
u32 type, u64 offset from the start of the data section, which begins at the next multiple of the alignment.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.gguf.errors import GgufError
from worker.gguf.types import UNSUPPORTED, GgmlType

Buffer = memoryview

MAGIC: Final = b"GGUF"
VERSION: Final = 3
MAX_TENSORS: Final = 10_000  # M0-W-1210: the count must be below
MAX_METADATA: Final = 100_000
MAX_KEY: Final = 65_535  # bytes; the format's own limit
MAX_NAME: Final = 1_024
MAX_DIMENSIONS: Final = 4
MAX_WEIGHTS: Final = 1 << 48  # far above any file, far below overflow
DEFAULT_ALIGNMENT: Final = 32

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {
    0: ("<B", "u1"),
    1: ("<b", "i1"),
    2: ("<H", "<u2"),
    3: ("<h", "<i2"),
    4: ("<I", "<u4"),
    5: ("<i", "<i4"),
    6: ("<f", "<f4"),
    7: ("<B", "u1"),  # bool
    10: ("<Q", "<u8"),
    11: ("<q", "<i8"),
    12: ("<d", "<f8"),
}
_BOOL = 7
_FAULTY = "the file is damaged or no GGUF; download or convert it again"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and what it holds.

    Attributes:
        name: as in the file, such as ``blk.0.attn_q.weight``.
        shape: NumPy order, rows of the matrix first: (out, in), experts (E, out, in).
        type: storage type.
        offset: absolute byte offset in the file.
        nbytes: stored bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    nbytes: int


class Metadata(Mapping[str, object]):
    """The file's metadata; arrays become lists when first read (a vocabulary has hundreds of thousands of strings)."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> object:
        value = self._values[key]
        if isinstance(value, _Array):
            value = self._values[key] = value.to_list()
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values


class _Array:
    def to_list(self) -> list[object]:
        raise NotImplementedError


class _Numbers(_Array):
    def __init__(self, values: np.ndarray, *, is_bool: bool) -> None:
        self._values = values
        self._is_bool = is_bool

    def to_list(self) -> list[object]:
        values: list[object] = (self._values != 0 if self._is_bool else self._values).tolist()
        return values


class _Strings(_Array):
    def __init__(self, buffer: Buffer, ends: array[int]) -> None:
        self._buffer = buffer
        self._ends = ends  # string i is buffer[ends[i] + 8 : ends[i + 1]]

    def to_list(self) -> list[object]:
        data = bytes(self._buffer[self._ends[0] : self._ends[-1]])
        base = self._ends[0]
        # A token may be a piece of a character: surrogateescape keeps its bytes.
        return [
            data[start + 8 - base : end - base].decode("utf-8", "surrogateescape")
            for start, end in zip(self._ends, self._ends[1:], strict=False)
        ]


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header: metadata, tensor records and the data section's start and alignment in bytes."""

    metadata: Metadata
    tensors: dict[str, TensorInfo]
    data_offset: int
    alignment: int


class _Cursor:
    """Reads forward through the mapped file and refuses to step outside it."""

    def __init__(self, buffer: Buffer, path: str) -> None:
        self.buffer = buffer
        self.path = path
        self.at = 0

    def fail(self, reason: str, what: str, cure: str = _FAULTY, where: str | None = None) -> GgufError:
        place = f"{where}, " if where else ""
        return GgufError(reason, what, where=f"{place}byte {self.at} of {self.path}", cure=cure)

    def need(self, n: int, what: str) -> None:
        left = len(self.buffer) - self.at
        if n > left:
            raise self.fail("truncated", f"the file is truncated: {what} needs {n} bytes, {left} are left")

    def scalar(self, fmt: str, what: str) -> int:
        size = struct.calcsize(fmt)
        self.need(size, what)
        (value,) = struct.unpack_from(fmt, self.buffer, self.at)
        self.at += size
        return value  # type: ignore[no-any-return]  # int or float, as the format says

    def u32(self, what: str) -> int:
        return self.scalar("<I", what)

    def u64(self, what: str) -> int:
        return self.scalar("<Q", what)

    def string(self, what: str, limit: int | None = None) -> bytes:
        length = self.u64(f"length of {what}")
        if limit is not None and length > limit:
            raise self.fail("string-too-long", f"{what} is {length} bytes long, the limit is {limit}")
        self.need(length, f"{what}, a string of {length} bytes,")
        value = bytes(self.buffer[self.at : self.at + length])
        self.at += length
        return value

    def name(self, what: str, limit: int) -> str:
        try:
            return self.string(what, limit).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("bad-utf8", f"{what} is not UTF-8") from None


def parse_header(buffer: Buffer, path: str) -> Header:
    """Parse the header of a GGUF v3 file.

    Args:
        buffer: the whole file, mapped.
        path: named in errors.

    Raises:
        GgufError: whatever makes the header unusable; nothing is read or allocated before it is checked.
    """
    c = _Cursor(buffer, path)
    c.need(24, "header")
    magic = bytes(buffer[:4])
    if magic != MAGIC:
        raise c.fail("bad-magic", f"magic bytes are {magic.hex(' ')}, a GGUF file starts with 47 47 55 46")
    c.at = 4
    version = c.u32("version")
    if version != VERSION:
        swapped = version == int.from_bytes(VERSION.to_bytes(4, "big"), "little")
        what = "the file is big-endian" if swapped else f"GGUF version is {version}"
        raise c.fail("bad-version", f"{what}, only little-endian version {VERSION} is supported", "convert it again")
    n_tensors = c.u64("tensor count")
    if n_tensors >= MAX_TENSORS:
        raise c.fail("too-many-tensors", f"tensor count is {n_tensors}, it must be below {MAX_TENSORS}")
    n_metadata = c.u64("metadata count")
    if n_metadata > MAX_METADATA:
        raise c.fail("too-much-metadata", f"metadata count is {n_metadata}, the limit is {MAX_METADATA}")

    values: dict[str, object] = {}
    for i in range(n_metadata):
        key = c.name(f"metadata key {i}", MAX_KEY)
        if key in values:
            raise c.fail("duplicate-key", "metadata key appears twice", where=f"key {key!r}")
        values[key] = _value(c, key, c.u32(f"type of key {key!r}"))
    metadata = Metadata(values)
    alignment = _alignment(c, metadata)

    records = [_tensor_record(c, i) for i in range(n_tensors)]
    data_offset = -(-c.at // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, shape, kind, offset in records:
        if name in tensors:
            raise c.fail("duplicate-tensor", "tensor appears twice", where=f"tensor {name!r}")
        tensors[name] = _place(c, name, shape, kind, offset, data_offset, alignment)
    _refuse_overlap(c, tensors)
    return Header(metadata, tensors, data_offset, alignment)


def _value(c: _Cursor, key: str, kind: int) -> object:
    if kind == _STRING:
        return c.string(f"value of key {key!r}").decode("utf-8", "replace")
    if kind == _ARRAY:
        return _array(c, key)
    if kind not in _SCALARS:
        raise c.fail("bad-value-type", f"metadata value type {kind} does not exist", where=f"key {key!r}")
    value = c.scalar(_SCALARS[kind][0], f"value of key {key!r}")
    return bool(value) if kind == _BOOL else value


def _array(c: _Cursor, key: str) -> _Array:
    kind = c.u32(f"element type of key {key!r}")
    count = c.u64(f"element count of key {key!r}")
    if kind == _STRING:
        return _string_array(c, key, count)
    if kind not in _SCALARS:
        what = "arrays of arrays are not supported" if kind == _ARRAY else f"array element type {kind} does not exist"
        raise c.fail("bad-value-type", what, where=f"key {key!r}")
    dtype = np.dtype(_SCALARS[kind][1])
    c.need(count * dtype.itemsize, f"array of {count} elements of key {key!r}")
    numbers = np.frombuffer(c.buffer, dtype, count, c.at)
    c.at += count * dtype.itemsize
    return _Numbers(numbers, is_bool=kind == _BOOL)


def _string_array(c: _Cursor, key: str, count: int) -> _Strings:
    c.need(count * 8, f"array of {count} strings of key {key!r}")
    at, end = c.at, len(c.buffer)
    ends = array("Q", [at])
    length_at = struct.Struct("<Q").unpack_from
    append = ends.append
    # The lengths form a chain, so this is the one loop over a vocabulary: 0.2 us a string.
    for _ in range(count):
        if at + 8 > end:
            break
        at += 8 + length_at(c.buffer, at)[0]
        if at > end:
            break
        append(at)
    if len(ends) != count + 1:
        c.at = ends[-1]
        what = f"the file is truncated: string {len(ends) - 1} of {count} reaches past its end"
        raise c.fail("truncated", what, where=f"key {key!r}")
    c.at = at
    return _Strings(c.buffer, ends)


def _alignment(c: _Cursor, metadata: Metadata) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 20 or value & (value - 1):
        raise c.fail("bad-alignment", f"general.alignment is {value!r}, it must be a power of two up to 1048576")
    return value


def _tensor_record(c: _Cursor, i: int) -> tuple[str, tuple[int, ...], GgmlType, int]:
    name = c.name(f"name of tensor {i}", MAX_NAME)
    where = f"tensor {name!r}"
    n_dims = c.u32(f"dimension count of {where}")
    if not 1 <= n_dims <= MAX_DIMENSIONS:
        raise c.fail("bad-dimensions", f"{n_dims} dimensions, 1 to {MAX_DIMENSIONS} are possible", where=where)
    dims = [c.u64(f"dimension {j} of {where}") for j in range(n_dims)]
    n_weights = 1
    for n in dims:
        if n < 1:
            raise c.fail("bad-dimensions", f"dimensions {dims} hold a zero", where=where)
        n_weights *= n
    if n_weights > MAX_WEIGHTS:
        raise c.fail("bad-dimensions", f"dimensions {dims} overflow", where=where)
    kind = c.u32(f"type of {where}")
    try:
        ggml_type = GgmlType(kind)
    except ValueError:
        known = ", ".join(t.name for t in GgmlType)
        named = f"type {UNSUPPORTED[kind]} ({kind})" if kind in UNSUPPORTED else f"type id {kind}"
        cure = f"quantize the model to one of {known}"
        raise c.fail("unsupported-type", f"{named} is not supported", cure, where=where) from None
    if dims[0] % ggml_type.block_size:
        what = f"a row of {dims[0]} is no multiple of {ggml_type.name}'s block of {ggml_type.block_size}"
        raise c.fail("bad-dimensions", what, where=where)
    return name, tuple(reversed(dims)), ggml_type, c.u64(f"offset of {where}")


def _place(
    c: _Cursor, name: str, shape: tuple[int, ...], kind: GgmlType, offset: int, data_offset: int, alignment: int
) -> TensorInfo:
    n_weights = 1
    for n in shape:
        n_weights *= n
    nbytes = kind.nbytes(n_weights)
    where = f"tensor {name!r}"
    if offset % alignment:
        raise c.fail("bad-offset", f"offset {offset} is no multiple of the alignment {alignment}", where=where)
    start, end, size = data_offset + offset, data_offset + offset + nbytes, len(c.buffer)
    if start >= size:
        raise c.fail(
            "bad-offset", f"offset {offset} lies outside the file: data at byte {start} of {size}", where=where
        )
    if end > size:
        what = f"the file is truncated: tensor data ends at byte {end}, the file at {size}"
        raise c.fail("truncated", what, where=where)
    return TensorInfo(name, shape, kind, start, nbytes)


def _refuse_overlap(c: _Cursor, tensors: dict[str, TensorInfo]) -> None:
    in_order = sorted(tensors.values(), key=lambda t: t.offset)
    for left, right in itertools.pairwise(in_order):
        if left.offset + left.nbytes > right.offset:
            what = f"offset overlaps tensor {left.name!r}"
            raise c.fail("bad-offset", what, where=f"tensor {right.name!r}")

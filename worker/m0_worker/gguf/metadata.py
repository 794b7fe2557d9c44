"""GGUF metadata: typed values, with arrays left in the file until somebody reads them."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from m0_worker.gguf.cursor import Cursor

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
    def __init__(self, buffer: memoryview, ends: array[int]) -> None:
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


def read_value(c: Cursor, key: str, kind: int) -> object:
    """The value of a key, of a value type by its number.

    Raises:
        GgufError: a type that does not exist, or a length beyond the file.
    """
    if kind == _STRING:
        return c.string(f"value of key {key!r}").decode("utf-8", "replace")
    if kind == _ARRAY:
        return _array(c, key)
    if kind not in _SCALARS:
        raise c.fail("bad-value-type", f"metadata value type {kind} does not exist", where=f"key {key!r}")
    value = c.scalar(_SCALARS[kind][0], f"value of key {key!r}")
    return bool(value) if kind == _BOOL else value


def _array(c: Cursor, key: str) -> _Array:
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


def _string_array(c: Cursor, key: str, count: int) -> _Strings:
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

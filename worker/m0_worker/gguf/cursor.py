"""Reads a mapped file forward, every length checked before it is used."""

from __future__ import annotations

import struct
from typing import Final

from m0_worker.gguf.errors import GgufError

_FAULTY: Final = "the file is damaged or no GGUF; download or convert it again"


class Cursor:
    """Reads forward through the mapped file and refuses to step outside it."""

    def __init__(self, buffer: memoryview, path: str) -> None:
        self.buffer = buffer
        self.path = path
        self.at = 0

    def fail(self, reason: str, what: str, cure: str = _FAULTY, where: str | None = None) -> GgufError:
        """An error about this place, for the caller to raise."""
        place = f"{where}, " if where else ""
        return GgufError(reason, what, where=f"{place}byte {self.at} of {self.path}", cure=cure)

    def need(self, n: int, what: str) -> None:
        """Refuse the file unless n bytes are left."""
        left = len(self.buffer) - self.at
        if n > left:
            raise self.fail("truncated", f"the file is truncated: {what} needs {n} bytes, {left} are left")

    def scalar(self, fmt: str, what: str) -> int:
        """The number that a struct format describes."""
        size = struct.calcsize(fmt)
        self.need(size, what)
        (value,) = struct.unpack_from(fmt, self.buffer, self.at)
        self.at += size
        return value  # type: ignore[no-any-return]  # int or float, as the format says

    def u32(self, what: str) -> int:
        """An unsigned 32-bit number."""
        return self.scalar("<I", what)

    def u64(self, what: str) -> int:
        """An unsigned 64-bit number."""
        return self.scalar("<Q", what)

    def string(self, what: str, limit: int | None = None) -> bytes:
        """A u64 length and as many bytes."""
        length = self.u64(f"length of {what}")
        if limit is not None and length > limit:
            raise self.fail("string-too-long", f"{what} is {length} bytes long, the limit is {limit}")
        self.need(length, f"{what}, a string of {length} bytes,")
        value = bytes(self.buffer[self.at : self.at + length])
        self.at += length
        return value

    def name(self, what: str, limit: int) -> str:
        """A string of at most ``limit`` bytes that must be UTF-8."""
        try:
            return self.string(what, limit).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("bad-utf8", f"{what} is not UTF-8") from None

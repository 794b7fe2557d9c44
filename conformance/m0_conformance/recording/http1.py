"""A minimal HTTP/1.x response reader that records instead of repairing; no input or output of its own.

It understands what a conforming worker may send (RFC 9112: status line, header fields, chunked, content-length and
close-delimited bodies, interim 1xx answers) and stops with `garbage` at anything else. Limits make an endless header or
body end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Framing

MAX_HEAD = 64 * 1024
MAX_BODY = 8 * 1024 * 1024
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: (.*))?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
_HEAD_END = re.compile(rb"\r?\n\r?\n")

State: TypeAlias = Literal[
    "head", "length", "close", "chunk-size", "chunk-data", "chunk-end", "trailer", "done", "garbage"
]


class ResponseReader:
    """Feed it bytes, then `eof()`; it tells state, status, headers and de-chunked body pieces."""

    def __init__(self, method: str) -> None:
        self.state: State = "head"
        self.head = b""
        self.http_version = ""
        self.status: int | None = None
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        self.framing: Framing = "none"
        self.error = ""
        self._method = method
        self._buffer = b""
        self._left = 0
        self._body = 0

    @property
    def finished(self) -> bool:
        """Nothing more is expected."""
        return self.state in {"done", "garbage"}

    @property
    def surplus(self) -> bytes:
        """Bytes received after the end of the message."""
        return self._buffer if self.state == "done" else b""

    def _garbage(self, why: str) -> None:
        self.state, self.error = "garbage", why

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes; returns the body pieces they completed."""
        self._buffer += data
        pieces: list[bytes] = []
        before: tuple[State, int] | None = None
        while not self.finished and (self.state, len(self._buffer)) != before:
            before = (self.state, len(self._buffer))
            self._step(pieces)
        self._body += sum(map(len, pieces))
        if self._body > MAX_BODY:
            self._garbage(f"the body has more than {MAX_BODY} bytes")
        return pieces

    def _step(self, pieces: list[bytes]) -> None:
        if self.state == "head":
            self._take_head()
        elif self.state == "close":
            self._take(len(self._buffer), pieces)
        elif self.state == "length":
            self._left -= self._take(self._left, pieces)
            if self._left == 0:
                self.state = "done"
        elif self.state == "chunk-data":
            self._left -= self._take(self._left, pieces)
            if self._left == 0:
                self.state = "chunk-end"
        else:
            self._take_line()

    def _take(self, limit: int, pieces: list[bytes]) -> int:
        piece, self._buffer = self._buffer[:limit], self._buffer[limit:]
        if piece:
            pieces.append(piece)
        return len(piece)

    def _take_line(self) -> None:
        """One line of the chunked framing."""
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            if len(self._buffer) > MAX_HEAD:
                self._garbage("a chunk header without an end")
            return
        line = line.removesuffix(b"\r")
        if self.state == "chunk-size":
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                self._garbage(f"bad chunk size {line[:40]!r}")
                return
            self._left = int(match[1], 16)
            self.state = "chunk-data" if self._left else "trailer"
        elif self.state == "chunk-end":
            if line:
                self._garbage(f"chunk data not followed by a line end but by {line[:40]!r}")
                return
            self.state = "chunk-size"
        elif not line:
            self.state = "done"
        self._buffer = rest

    def _take_head(self) -> None:
        if self._buffer and not b"HTTP/1.".startswith(self._buffer[:7]):
            self._reject_head(f"the answer does not begin with HTTP/1. but with {self._buffer[:40]!r}")
            return
        match = _HEAD_END.search(self._buffer)
        if match is None:
            if len(self._buffer) > MAX_HEAD:
                self._reject_head(f"no end of the headers within {MAX_HEAD} bytes")
            return
        raw, rest = self._buffer[: match.end()], self._buffer[match.end() :]
        first, *lines = re.split(rb"\r?\n", raw[: match.start()])
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            self._reject_head(f"bad status line {first[:80]!r}")
            return
        headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                self._reject_head(f"bad header line {line[:80]!r}")
                return
            headers.append((name.decode("latin-1"), value.strip().decode("latin-1")))
        code = int(status[2])
        if code < 200:  # an interim answer; the real one follows
            self._buffer = rest
            return
        self.head, self._buffer, self.headers, self.status = raw, rest, headers, code
        self.http_version, self.reason = status[1].decode(), (status[3] or b"").decode("latin-1")
        self._choose_framing()

    def _reject_head(self, why: str) -> None:
        self.head, self._buffer = self._buffer[:MAX_HEAD], b""
        self._garbage(why)

    def _choose_framing(self) -> None:
        """RFC 9112, section 6.3."""
        values = {name.lower(): value for name, value in self.headers}
        if self._method == "HEAD" or self.status in {204, 304}:
            self.state = "done"
        elif "chunked" in values.get("transfer-encoding", "").lower():
            self.framing, self.state = "chunked", "chunk-size"
        elif "content-length" in values:
            length = values["content-length"]
            if not length.isascii() or not length.isdigit():
                self._garbage(f"bad content-length {length[:40]!r}")
                return
            self.framing, self._left = "length", int(length)
            self.state = "length" if self._left else "done"
        else:
            self.framing, self.state = "close", "close"

    def eof(self) -> bool:
        """The peer closed. True when the message was complete; else `error` says what was cut."""
        if self.state == "close":
            self.state = "done"
        if self.state == "done":
            return True
        if self.state == "head":
            self.head = self._buffer
            self.error = "closed in the middle of the headers" if self._buffer else "closed without an answer"
        elif self.state == "garbage":
            pass
        else:
            self.error = f"closed in the middle of a body framed by {self.framing}"
        return False

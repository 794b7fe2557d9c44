"""A strict reader of server-sent event streams: it reports what libraries repair.

Grammar: WHATWG HTML, "server-sent events" (ABNF of the event stream). Deviations become `Problem`s with their byte
offset and reading goes on, so that one defect is reported once and the rest of the stream can still be judged. Nothing
is ever repaired in the recorded bytes. Feeding the same bytes in any pieces gives the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ProblemKind: TypeAlias = Literal[
    "bom",  # U+FEFF before the first line: allowed by WHATWG, swallowed into the first field name by real clients
    "lone-cr",  # CR as a line end: allowed by WHATWG, not understood by line-based clients
    "ill-formed-utf8",
    "nul",
    "unknown-field",
    "field-without-colon",
    "repeated-event-field",
    "event-without-data",  # WHATWG clients drop it silently
    "unterminated-line",  # the body ends in the middle of a line
    "unterminated-event",  # the last event lacks its blank line: WHATWG clients drop it silently
]

_KNOWN_FIELDS = frozenset({"event", "data", "id", "retry"})
_BOM = b"\xef\xbb\xbf"
_CR, _LF = 0x0D, 0x0A


@dataclass(frozen=True, slots=True)
class Problem:
    """A deviation from the grammar."""

    kind: ProblemKind
    byte: int
    """Offset in the body."""
    event: int
    """Number of the event it lies in, counted from 0."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end."""

    byte: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One block of lines closed by a blank line (or by the end of the body, then `terminated` is False)."""

    index: int
    byte: int
    """Offset of its first line."""
    end: int
    """Offset of the blank line that closed it, or of the end of the body."""
    lines: tuple[Line, ...]
    name: str | None
    """Value of the `event` field; None without one."""
    data: bytes | None
    """`data` values joined by LF; None without any."""
    id: str | None
    terminated: bool


@dataclass(slots=True)
class SseParse:
    """All of a body."""

    events: list[SseEvent] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    comments: int = 0
    line_ends: dict[str, int] = field(default_factory=lambda: {"lf": 0, "crlf": 0, "cr": 0})
    size: int = 0
    """Bytes read."""


def _utf8_error(raw: bytes) -> int | None:
    """Offset of the first ill-formed byte, or None."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


class SseParser:
    """Incremental: `feed` returns the events completed by these bytes, `finish` the whole parse."""

    def __init__(self) -> None:
        self.parse = SseParse()
        self._line = bytearray()
        self._line_start = 0
        self._position = 0
        self._last_was_cr = False
        self._cr_problem = 0
        self._block: list[Line] = []
        self._at_start = True

    def feed(self, data: bytes) -> list[SseEvent]:
        """Read some more bytes."""
        before = len(self.parse.events)
        start = 0
        size = len(data)
        while start < size:
            if self._last_was_cr:
                self._last_was_cr = False
                if data[start] == _LF:  # the second half of CRLF: the line itself was taken at the CR
                    self.parse.line_ends["cr"] -= 1
                    self.parse.line_ends["crlf"] += 1
                    del self.parse.problems[self._cr_problem]
                    start += 1
                    self._line_start = self._position + start
                    continue
            cut = _first_line_end(data, start)
            if cut < 0:
                self._line += data[start:]
                break
            self._line += data[start:cut]
            if data[cut] == _CR:
                self._take_cr(self._position + cut)
            else:
                self.parse.line_ends["lf"] += 1
                self._take_line()
            self._line_start = self._position + cut + 1
            start = cut + 1
        self._position += size
        self.parse.size = self._position
        return self.parse.events[before:]

    def _take_cr(self, position: int) -> None:
        """A line ended by CR: a lone CR until the next byte shows that it was half of CRLF."""
        self.parse.line_ends["cr"] += 1
        self._last_was_cr = True
        self._cr_problem = len(self.parse.problems)
        self._problem("lone-cr", position)
        self._take_line()

    def _problem(self, kind: ProblemKind, byte: int, detail: str = "") -> None:
        self.parse.problems.append(Problem(kind, byte, len(self.parse.events), detail))

    def _take_line(self) -> None:
        raw, byte = bytes(self._line), self._line_start
        self._line.clear()
        if self._at_start:
            self._at_start = False
            if raw.startswith(_BOM):
                self._problem("bom", 0)
                raw, byte = raw[len(_BOM) :], len(_BOM)
        if not raw:
            if self._block:
                self._dispatch(byte, terminated=True)
            return
        bad = _utf8_error(raw)
        if bad is not None:
            self._problem("ill-formed-utf8", byte + bad, raw[bad : bad + 4].hex(" "))
        if b"\0" in raw:
            self._problem("nul", byte + raw.index(b"\0"))
        if raw.startswith(b":"):
            self.parse.comments += 1
            return
        self._block.append(Line(byte, raw))

    def _dispatch(self, end: int, *, terminated: bool) -> None:
        name: str | None = None
        identity: str | None = None
        data: list[bytes] = []
        for line in self._block:
            field_raw, colon, value = line.raw.partition(b":")
            value = value.removeprefix(b" ")
            key = field_raw.decode("utf-8", "backslashreplace")
            if key not in _KNOWN_FIELDS:
                self._problem("unknown-field", line.byte, key[:40])
                continue
            if not colon:
                self._problem("field-without-colon", line.byte, key)
            if key == "event":
                if name is not None:
                    self._problem("repeated-event-field", line.byte)
                name = value.decode("utf-8", "backslashreplace")
            elif key == "data":
                data.append(value)
            elif key == "id":
                identity = value.decode("utf-8", "backslashreplace")
        first = self._block[0].byte
        if not data:
            self._problem("event-without-data", first, name or "")
        if not terminated:
            self._problem("unterminated-event", end)
        joined = b"\n".join(data) if data else None
        lines = tuple(self._block)
        self._block = []
        self.parse.events.append(
            SseEvent(len(self.parse.events), first, end, lines, name, joined, identity, terminated)
        )

    def finish(self) -> SseParse:
        """The body has ended: judge what is left over."""
        if self._line:
            start = self._line_start
            self._problem("unterminated-line", start)
            self._take_line()
        if self._block:
            self._dispatch(self._position, terminated=False)
        return self.parse


def _first_line_end(data: bytes, start: int) -> int:
    """Index of the first CR or LF at or after `start`; -1 for none."""
    lf = data.find(b"\n", start)
    cr = data.find(b"\r", start) if lf < 0 else data.find(b"\r", start, lf)
    return cr if cr >= 0 else lf


def parse_sse(body: bytes) -> SseParse:
    """Read a whole body."""
    parser = SseParser()
    parser.feed(body)
    return parser.finish()

"""Just enough HTTP/1.1 for a proxy that lies: whole requests in, heads and bodies out, byte for byte under control."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import StreamReader
    from collections.abc import AsyncIterator

HEAD_LIMIT = 64 << 10
PIECES_APART_S = 0.01
"""Parts of a body that come closer to each other than this are one."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came from the client."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    pieces: int = 1
    """Parts of it that came with time between them."""
    on_connection: int = 1
    """1 for the first request of its connection."""

    @property
    def path(self) -> str:
        """Target without a query."""
        return self.target.split("?")[0]

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def with_json(self, value: dict[str, Any]) -> Request:
        """The same request with another body."""
        return replace(self, body=json.dumps(value).encode())

    def encode(self, host: str) -> bytes:
        """As sent to the worker: one request a connection."""
        dropped = {"host", "content-length", "connection", "transfer-encoding"}
        kept = [(k, v) for k, v in self.headers if k.lower() not in dropped]
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{k}: {v}" for k, v in kept]
        if self.body or self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


@dataclass(slots=True)
class Head:
    """Status line and headers of an answer."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    reason: str = ""
    version: str = "HTTP/1.1"

    def header(self, name: str) -> str:
        """First value of a header, lower-case name or not; "" when absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def set(self, name: str, value: str | None) -> None:
        """Replace a header, or remove it."""
        self.headers = [(k, v) for k, v in self.headers if k.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))

    def encode(self) -> bytes:
        """The raw head."""
        lines = [f"{self.version} {self.status} {self.reason or 'X'}", *(f"{k}: {v}" for k, v in self.headers)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


@dataclass(slots=True)
class Answer:
    """A complete answer, made up or taken from the worker."""

    head: Head
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def json_answer(status: int, value: Any, **headers: str) -> Answer:
    """An answer with a JSON body."""
    head = Head(status, [("content-type", "application/json"), *headers.items()])
    return Answer(head, json.dumps(value).encode())


def text_answer(status: int, text: str) -> Answer:
    """An answer in plain text."""
    return Answer(Head(status, [("content-type", "text/plain")]), text.encode())


async def read_head(reader: StreamReader) -> tuple[str, list[tuple[str, str]]] | None:
    """First line and headers; None when the peer closed before sending any. Raises ValueError on anything else."""
    raw = b""
    while not raw.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            if raw:
                raise ValueError("the peer closed inside a head")
            return None
        raw += line
        if len(raw) > HEAD_LIMIT:
            raise ValueError("the head is too long")
    first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in rest)]
    return first, pairs


def _value(headers: list[tuple[str, str]], name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


async def body_of(reader: StreamReader, headers: list[tuple[str, str]], *, request: bool) -> AsyncIterator[bytes]:
    """The body in the pieces it arrives in, chunked coding removed."""
    if _value(headers, "transfer-encoding").lower() == "chunked":
        while True:
            size = int((await reader.readline()).split(b";")[0].strip() or b"0", 16)
            if size == 0:
                while (await reader.readline()).strip():
                    pass
                return
            data = await reader.readexactly(size)
            await reader.readexactly(2)
            yield data
    length = _value(headers, "content-length")
    if length:
        left = int(length)
        while left:
            data = await reader.read(min(left, 1 << 16))
            if not data:
                return
            left -= len(data)
            yield data
        return
    if request:
        return
    while data := await reader.read(1 << 16):
        yield data


async def read_request(reader: StreamReader, number: int = 1) -> Request | None:
    """One whole request, the so-manieth of its connection; None at the connection's end.

    Raises:
        ValueError: it is no HTTP.
    """
    found = await read_head(reader)
    if found is None:
        return None
    first, headers = found
    method, _, rest = first.partition(" ")
    target, _, _ = rest.rpartition(" ")
    body, pieces, before = b"", 1, time.monotonic()
    async for piece in body_of(reader, headers, request=True):
        body += piece
        pieces += time.monotonic() - before > PIECES_APART_S
        before = time.monotonic()
    return Request(method, target or "/", tuple(headers), body, pieces, number)


async def read_answer_head(reader: StreamReader) -> Head | None:
    """Head of the worker's answer."""
    found = await read_head(reader)
    if found is None:
        return None
    first, headers = found
    version, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")
    return Head(int(status), headers, reason, version)

"""The one client: a raw asyncio socket per exchange, every byte recorded with its arrival time.

No proxy, no cookie, no redirect, no keep-alive, no retry. Whatever the peer does (hang, garbage, endless headers,
reset) the exchange ends in time with a word for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from m0_conformance.wire.http1 import ResponseReader
from m0_conformance.wire.transcript import Chunk, End, Exchange, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from m0_conformance.wire.transcript import Json

CONNECT_TIMEOUT = 5.0
READ_SIZE = 256 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with time 0: close sends RST


class Clock:
    """A recording's clock: 0.0 when it is made, monotonic, microseconds."""

    def __init__(self) -> None:
        self._origin = time.monotonic()

    def now(self) -> float:
        """Seconds since the origin."""
        return seconds(time.monotonic() - self._origin)

    def at(self, monotonic: float) -> float:
        """A `time.monotonic()` value on this clock."""
        return seconds(monotonic - self._origin)


@dataclass(slots=True)
class Request:
    """What to send."""

    method: str
    path: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes | None = None
    """Bytes to send instead of a well-formed request; method and path then only label the exchange."""
    pauses: Sequence[tuple[int, float]] = ()
    """Pause (seconds) after so many bytes were sent: a slow client."""
    half_close: bool = False
    """Close our sending side after the request."""
    receive_buffer: int | None = None
    """SO_RCVBUF: a small one makes a client that does not read felt early."""

    def encode(self, host: str) -> bytes:
        """The bytes for the socket."""
        if self.raw is not None:
            return self.raw
        names = {name.lower() for name, _ in self.headers}
        headers = [] if "host" in names else [("Host", host)]
        headers += self.headers
        carries = self.body or self.method in {"POST", "PUT", "PATCH"}
        if carries and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(self.body))))
        if "connection" not in names:
            headers.append(("Connection", "close"))
        head = f"{self.method} {self.path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers) + "\r\n"
        return head.encode("latin-1") + self.body


def json_request(method: str, path: str, value: Json, headers: Sequence[tuple[str, str]] = ()) -> Request:
    """A request with a JSON body; lone surrogates travel as escapes."""
    body = json.dumps(value).encode("ascii")
    return Request(method, path, [("Content-Type", "application/json"), *headers], body)


class Live:
    """An exchange in flight; `exchange` grows while it runs."""

    def __init__(self, request: Request, exchange: Exchange, address: tuple[str, int], timeout: float) -> None:
        self.request = request
        self.exchange = exchange
        self._address = address
        self._timeout = timeout
        self._begin = time.monotonic()
        self._news = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._writer: asyncio.StreamWriter | None = None
        self._closing: End | None = None
        self._task = asyncio.create_task(self._run())

    # ---- for the check ----------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Nothing more will be recorded."""
        return self._task.done()

    async def wait(self, condition: Callable[[], bool], within: float | None = None) -> bool:
        """Wait until the condition holds; False when the exchange ended or the time was over without it."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    if self.ended:
                        return False
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return condition()
        return True

    async def head(self, within: float | None = None) -> bool:
        """Wait for status line and headers."""
        return await self.wait(lambda: self.exchange.head_at is not None, within)

    async def done(self) -> Exchange:
        """Wait for the end, whatever it is; never raises for what the peer did."""
        await asyncio.shield(self._task)
        return self.exchange

    def pause(self) -> None:
        """Stop reading: a client that does not take its bytes."""
        self._reading.clear()

    def resume(self) -> None:
        """Read on."""
        self._reading.set()

    async def hang_up(self, *, reset: bool = False) -> Exchange:
        """Close our side now, with RST when `reset`."""
        if not self.ended and self._closing is None:
            self._closing = "client-closed"
            if self._writer is not None:
                if reset and (sock := self._writer.get_extra_info("socket")) is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                self._writer.transport.abort()
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return self.exchange

    # ---- the exchange itself ----------------------------------------------------------------------------------

    def _now(self) -> float:
        return seconds(time.monotonic() - self._begin)

    def _end(self, end: End, error: str = "") -> None:
        if self.exchange.end == "open":
            self.exchange.end = end
            self.exchange.closed_at = self._now()
        if error and not self.exchange.error:
            self.exchange.error = error

    async def _run(self) -> None:
        sender: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._timeout):
                reader = await self._connect()
                if reader is not None and self._writer is not None:
                    sender = asyncio.create_task(self._send(self._writer))
                    await self._receive(reader)
        except TimeoutError:
            self._end("timeout", f"nothing ended it within {self._timeout:g} s")
        except asyncio.CancelledError:
            self._end(self._closing or "client-closed")
        except OSError as error:
            self._end("reset", str(error))
        finally:
            if sender is not None:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sender
            if self._writer is not None:
                self._writer.close()
            self._news.set()

    async def _connect(self) -> asyncio.StreamReader | None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                reader, self._writer = await asyncio.open_connection(*self._address, limit=READ_SIZE)
        except TimeoutError:
            self._end("refused", f"no connection within {CONNECT_TIMEOUT:g} s")
            return None
        except OSError as error:
            self._end("refused", error.strerror or str(error))
            return None
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.request.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.request.receive_buffer)
        return reader

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        data = self.request.encode(self.exchange.host)
        start = 0
        try:
            for count, pause in self.request.pauses:
                writer.write(data[start : start + count])
                await writer.drain()
                start += count
                await asyncio.sleep(pause)
            writer.write(data[start:])
            await writer.drain()
            if self.request.half_close:
                writer.write_eof()
            self.exchange.sent_at = self._now()
        except OSError:
            pass  # the peer may answer early and close; what it answered is judged, not that it stopped reading

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        parser = ResponseReader(self.request.method)
        while True:
            await self._reading.wait()
            try:
                data = await reader.read(READ_SIZE)
            except OSError as error:
                self._take_head(parser)
                self._end("reset", error.strerror or str(error))
                return
            at = self._now()
            pieces = parser.feed(data) if data else []
            self._take_head(parser)
            self.exchange.chunks.extend(Chunk(at, piece) for piece in pieces)
            if not data:
                complete = parser.eof()
                self._take_head(parser)
                partial = parser.status is None and bool(parser.head)
                self._end("eof" if complete else "garbage" if partial else "reset", parser.error)
                return
            if parser.finished:
                surplus = f"{len(parser.surplus)} bytes after the end of the message" if parser.surplus else ""
                self._end("eof" if parser.state == "done" else "garbage", parser.error or surplus)
                return
            self._news.set()

    def _take_head(self, parser: ResponseReader) -> None:
        exchange = self.exchange
        if exchange.head_at is None and (parser.status is not None or parser.head):
            exchange.head = parser.head
            exchange.status, exchange.http_version, exchange.reason = parser.status, parser.http_version, parser.reason
            exchange.headers, exchange.framing = parser.headers, parser.framing
            if parser.status is not None:
                exchange.head_at = self._now()


def start(
    address: tuple[str, int],
    request: Request,
    *,
    identity: str,
    label: str,
    clock: Clock,
    timeout: float,
) -> Live:
    """Begin an exchange; the caller puts `live.exchange` into its recording."""
    host = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    exchange = Exchange(
        id=identity,
        label=label,
        method=request.method,
        path=request.path,
        request_headers=list(request.headers),
        request_body=request.body if request.raw is None else request.raw,
        host=host,
        started_at=seconds(time.time()),
        t0=clock.now(),
    )
    return Live(request, exchange, address, timeout)


async def port_accepts(address: tuple[str, int]) -> bool:
    """One TCP connection attempt."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def measure_floor(count: int = 30) -> list[float]:
    """What this harness itself adds: round trips (seconds) of a constant answer from a server in this process."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    clock = Clock()
    samples: list[float] = []
    async with server:
        for number in range(count):
            live = start(
                ("127.0.0.1", port), Request("GET", "/"), identity=f"f{number}", label="floor", clock=clock, timeout=5
            )
            exchange = await live.done()
            if exchange.closed_at is not None and exchange.end == "eof":
                samples.append(exchange.closed_at)
    return samples

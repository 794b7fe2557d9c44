"""The one client: a recorded connection per exchange, every byte with its time.

Well-formed requests are httpx2's (see `transport`); malformed ones go over the same connection as they are. No proxy,
no cookie, no redirect, no keep-alive, no retry. Whatever the peer does (hang, garbage, endless headers, reset) the
exchange ends in time with a word for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from m0_conformance.recording.http1 import ResponseReader
from m0_conformance.recording.route import PLAIN, Route
from m0_conformance.recording.stream import RecordingStream
from m0_conformance.recording.transcript import Chunk, End, Exchange, seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx2

    from m0_conformance.recording.request import Request


CONNECT_TIMEOUT = 5.0


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


class Live:
    """An exchange in flight; `exchange` grows while it runs, `stream` holds its bytes once it is connected."""

    def __init__(
        self,
        request: Request,
        formed: httpx2.Request | None,
        exchange: Exchange,
        address: tuple[str, int],
        timeout: float,
    ) -> None:
        self.request = request
        self.exchange = exchange
        self.stream: RecordingStream | None = None
        self._formed = formed
        self._parser = ResponseReader(request.method)
        self._address = address
        self._timeout = timeout
        self._begin = time.monotonic()
        self._news = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._sender: asyncio.Task[None] | None = None
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
            if self.stream is not None:
                self.stream.abort(reset=reset)
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
        try:
            async with asyncio.timeout(self._timeout):
                self.stream = await self._connect()
                if self.stream is not None:
                    await self._talk()
        except TimeoutError:
            self._end("timeout", f"nothing ended it within {self._timeout:g} s")
        except asyncio.CancelledError:
            self._end(self._closing or "client-closed")
        except OSError as error:
            self._end("reset", str(error))
        finally:
            if self._sender is not None:
                self._sender.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await self._sender
            if self.stream is not None:
                self.stream.close()
            self._news.set()

    async def _connect(self) -> RecordingStream | None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await RecordingStream.connect(
                    self._address, self._now, receive_buffer=self.request.receive_buffer
                )
        except TimeoutError:
            self._end("refused", f"no connection within {CONNECT_TIMEOUT:g} s")
        except OSError as error:
            self._end("refused", error.strerror or str(error))
        return None

    async def _talk(self) -> None:
        if self._formed is None:
            self._send(self.request.raw or b"")
            async for _ in self._pieces():
                pass
        else:
            from m0_conformance.recording import transport  # noqa: PLC0415 - loaded by `start`, for those who connect

            await transport.exchange(self._formed, transport.RecordedTransport(self._send, self._status, self._pieces))

    def _send(self, data: bytes) -> None:
        """Begin to send; the answer may come, and the connection end, before all is sent."""
        self._sender = asyncio.create_task(self._send_all(data))

    async def _send_all(self, data: bytes) -> None:
        if self.stream is None:
            return
        # The peer may answer early and close; what it answered is judged, not that it stopped reading.
        with contextlib.suppress(OSError):
            await self.stream.send(data, self.request.pauses, half_close=self.request.half_close)
            self.exchange.sent_at = self._now()

    async def _status(self) -> int | None:
        """Read until the head is complete; None when the exchange ended without one."""
        while self.exchange.status is None and await self._receive():
            pass
        return self.exchange.status

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, to the end of the exchange."""
        seen = 0
        more = True
        while more:
            chunks = self.exchange.chunks[seen:]
            seen += len(chunks)
            if chunks:
                yield b"".join(chunk.data for chunk in chunks)
            more = self.exchange.end == "open" and await self._receive()

    async def _receive(self) -> bool:
        """Take what comes next into the exchange; False when that was the end of it."""
        if self.stream is None:
            return False
        await self._reading.wait()
        parser = self._parser
        try:
            chunk = await self.stream.receive()
        except OSError as error:
            self._take_head(parser)
            self._end("reset", error.strerror or str(error))
            return False
        pieces = parser.feed(chunk.data) if chunk.data else []
        self._take_head(parser)
        self.exchange.chunks.extend(Chunk(chunk.at, piece) for piece in pieces)
        if not chunk.data:
            complete = parser.eof()
            self._take_head(parser)
            partial = parser.status is None and bool(parser.head)
            self._end("eof" if complete else "garbage" if partial else "reset", parser.error)
            return False
        if parser.finished:
            surplus = f"{len(parser.surplus)} bytes after the end of the message" if parser.surplus else ""
            self._end("eof" if parser.state == "done" else "garbage", parser.error or surplus)
            return False
        self._news.set()
        return True

    def _take_head(self, parser: ResponseReader) -> None:
        exchange = self.exchange
        if exchange.head_at is None and (parser.status is not None or parser.head):
            exchange.head = parser.head
            exchange.status, exchange.http_version, exchange.reason = parser.status, parser.http_version, parser.reason
            exchange.headers, exchange.framing = parser.headers, parser.framing
            if parser.status is not None:
                exchange.head_at = self._now()


def load() -> None:
    """Load httpx2 now: it takes 20 ms of CPU, which the first exchange would pay, and who makes none need not."""
    import m0_conformance.recording.transport  # noqa: F401, PLC0415 - the reason is above


def start(
    address: tuple[str, int],
    request: Request,
    *,
    identity: str,
    label: str,
    clock: Clock,
    timeout: float,
    route: Route = PLAIN,
) -> Live:
    """Begin an exchange; the caller puts `live.exchange` into its recording, which holds the request before `route`.

    Raises ValueError for a request that is neither well-formed nor raw.
    """
    host = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    formed = None
    sent = route.sent(request)
    if sent.raw is None:
        from m0_conformance.recording import transport  # noqa: PLC0415 - see `load`; before the clock runs

        formed = transport.form(sent, host)
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
    return Live(sent, formed, exchange, address, timeout)


async def port_accepts(address: tuple[str, int]) -> bool:
    """One TCP connection attempt."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

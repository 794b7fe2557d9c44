"""The recorded connection: every byte that leaves or arrives, with its time, whoever formed it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from m0_conformance.recording.transcript import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READ_SIZE = 256 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with time 0: close sends RST


class RecordingStream:
    """One TCP connection.

    Attributes:
        sent: what was handed to the kernel, a piece for each write, with the time at which it was.
        received: what came, a piece for each read, with its arrival.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now: Callable[[], float]) -> None:
        self.sent: list[Chunk] = []
        self.received: list[Chunk] = []
        self._reader, self._writer, self._now = reader, writer, now

    @classmethod
    async def connect(
        cls, address: tuple[str, int], now: Callable[[], float], *, receive_buffer: int | None = None
    ) -> RecordingStream:
        """Connect without Nagle's delay; ``now`` gives seconds since the exchange began. Raises OSError."""
        reader, writer = await asyncio.open_connection(*address, limit=READ_SIZE)
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return cls(reader, writer, now)

    async def send(self, data: bytes, pauses: Sequence[tuple[int, float]] = (), *, half_close: bool = False) -> None:
        """Write it all, with a pause (seconds) after so many bytes; then close our side if asked. Raises OSError.

        A negative number of bytes is how many are left at the pause.
        """
        start = 0
        for count, pause in pauses:
            stop = start + count if count >= 0 else max(start, len(data) + count)
            await self._write(data[start:stop])
            start = stop
            await asyncio.sleep(pause)
        await self._write(data[start:])
        if half_close:
            self._writer.write_eof()

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        self.sent.append(Chunk(self._now(), data))

    async def receive(self) -> Chunk:
        """The next bytes; none when the peer closed. Raises OSError."""
        data = await self._reader.read(READ_SIZE)
        chunk = Chunk(self._now(), data)
        if data:
            self.received.append(chunk)
        return chunk

    def abort(self, *, reset: bool) -> None:
        """Drop the connection at once, with RST when ``reset``."""
        if reset and (sock := self._writer.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._writer.transport.abort()

    def close(self) -> None:
        """Close it; what is still to be written is."""
        self._writer.close()
